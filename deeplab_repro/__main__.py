"""python -m deeplab_repro"""

from deeplab_repro.cli import command

if __name__ == "__main__":  # worker processes import this module too
    command()
