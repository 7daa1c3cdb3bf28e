"""python -m deeplab_repro"""

from deeplab_repro.cli import command

command()
