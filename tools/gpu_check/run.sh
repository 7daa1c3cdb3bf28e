#!/usr/bin/env bash
# Check the GPU half on a machine with a GPU and without network, in one command.
#
#   bash tools/gpu_check/run.sh pack GOLDEN WHEEL   beforehand: put into .gpu what comes along
#   bash tools/gpu_check/run.sh                     smoke.py: under two minutes
#   bash tools/gpu_check/run.sh full                smoke.py, then gpu_check.py: under nine minutes
#   bash tools/gpu_check/run.sh rehearse [full]     the same in a clean clone, without a GPU
#
# The repository and its folder .gpu are all that is needed: .gpu holds golden/nets and golden/crf,
# outputs of the original software, and at most one wheel of OpenCV with CUDA. The wheel REPLACES
# the OpenCV packages in the environment of $PYTHON (python3). Where that cannot be written, it is
# unpacked beside, and found first. A rehearsal leaves the environment as it is.
#
# Results go to the folder $OUT (./gpu_out): smoke.txt, gpu_check.txt, gpu_check.json. The exit
# status is 0 if all is well, 1 if something is bad, 2 if it could not begin.

set -uo pipefail
export PYTHONUNBUFFERED=1
most=$((64 << 20)) # bytes of the repository's files and .gpu together
opencvs="opencv-python opencv-python-headless opencv-contrib-python opencv-contrib-python-headless"

OUT=$(realpath -m "${OUT:-gpu_out}")
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
tools=tools/gpu_check

fail() {
  echo "run.sh: error: $*" >&2
  exit 2
}

python=$(command -v "${PYTHON:-python3}") || fail "there is no ${PYTHON:-python3}, set PYTHON"
python=$(realpath -s "$python") # not through links: a virtual environment is one

pack() {
  local golden=$1 wheel=$2 size new
  [[ -f $wheel && $wheel = *.whl ]] || fail "$wheel is no wheel, expected OpenCV's with CUDA"
  for part in nets crf; do
    [ -d "$golden/$part" ] || fail "$golden has no folder $part, expected the original's outputs"
  done
  size=$({ git ls-files -z && find "$wheel" "$golden/nets" "$golden/crf" -type f -print0; } |
    du -cbL --files0-from=- | tail -1 | cut -f1)
  [ "$size" -le "$most" ] ||
    fail "$((size >> 20)) MiB in all, at most $((most >> 20)) can come along"
  new=$(mktemp -d) && mkdir "$new/golden" && # may be packed from what is in .gpu
    cp -rL --no-preserve=mode "$golden/nets" "$golden/crf" "$new/golden" && cp -L "$wheel" "$new" &&
    rm -rf .gpu && cp -r "$new" .gpu && rm -rf "$new" || fail "$here/.gpu could not be written"
  echo "packed .gpu: with the repository $((size >> 20)) of $((most >> 20)) MiB"
}

rehearse() {
  local clone status
  [ -d .gpu ] || fail "$here has no .gpu, make it with: bash $tools/run.sh pack GOLDEN WHEEL"
  clone=$(mktemp -d)
  git clone -q . "$clone/repository" && cp -r .gpu "$clone/repository" || fail "cannot clone $here"
  cd / && OUT=$OUT PYTHON=$python bash "$clone/repository/$tools/run.sh" "${1:-smoke}" --rehearse
  status=$?
  rm -rf "$clone"
  return $status
}

install_opencv() { # $1: --rehearse or nothing
  local wheels=(.gpu/*.whl) packages
  [ ${#wheels[@]} -le 1 ] || fail "$here/.gpu has several wheels, expected one of OpenCV with CUDA"
  if [ ! -f "${wheels[0]}" ]; then
    echo "no wheel in .gpu: OpenCV stays as it is"
    return
  fi
  packages=$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
  if [ -z "$1" ] && [ -w "$packages" ] && "$python" -m pip uninstall -y -qq $opencvs &&
    "$python" -m pip install -q --no-index --no-deps --no-compile "${wheels[0]}"; then
    echo "installed ${wheels[0]}"
    return
  fi
  beside=$(mktemp -d)
  trap 'rm -rf "$beside"' EXIT
  "$python" -m zipfile -e "${wheels[0]}" "$beside" || fail "${wheels[0]} cannot be unpacked"
  if [ -n "$1" ] && ! PYTHONPATH=$beside:$PYTHONPATH \
    "$python" -c "import deeplab_repro.machine.opencv" 2>&1 | tail -1; then
    echo "the wheel does not load here: the rehearsal goes on with the OpenCV that is installed"
    return
  fi
  export PYTHONPATH=$beside:$PYTHONPATH
  echo "unpacked ${wheels[0]} beside the environment"
}

find_cuda() { # for Numba, whose own search wants all parts of CUDA in one place
  local nvcc
  [ -z "${CUDA_HOME:-}" ] || return
  nvcc=$(realpath -q "$(command -v nvcc)")
  for folder in "${CUDA_PATH:-}" /usr/local/cuda "${nvcc%/bin/nvcc}"; do
    if [ -d "$folder/nvvm/libdevice" ]; then
      export CUDA_HOME=$folder
      return
    fi
  done
}

run() { # what is run, and --rehearse or nothing
  local rehearse=$2 status
  [ -d .gpu/golden ] ||
    fail "$here has no .gpu/golden, make it with: bash $tools/run.sh pack GOLDEN WHEEL"
  mkdir -p "$OUT" || fail "the folder OUT=$OUT cannot be made"
  export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
  find_cuda
  install_opencv "$rehearse"
  "$python" $tools/smoke.py --golden .gpu/golden $rehearse 2>&1 | tee "$OUT/smoke.txt"
  status=$?
  if [ "$1" = full ]; then
    "$python" $tools/gpu_check.py --golden .gpu/golden --out "$OUT/gpu_check.json" $rehearse 2>&1 |
      tee "$OUT/gpu_check.txt" || status=1
  fi
  return $status
}

cd "$here" || exit 2
case "${1:-smoke} $#" in
"pack 3") pack "$(cd "$OLDPWD" && realpath -m "$2")" "$(cd "$OLDPWD" && realpath -m "$3")" ;;
"smoke "[0-2] | "full "[12]) run "${1:-smoke}" "${2:-}" ;;
"rehearse "[12]) rehearse "${2:-}" ;;
*) fail "expected nothing, full, rehearse [full], or pack GOLDEN WHEEL" ;;
esac
