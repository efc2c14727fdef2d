#!/bin/sh
# Compiles the shim against every supported MLX on the package index, warnings
# being errors, and loads what comes out: make shim-matrix.
#
# CXX, PYTHON and SHIM_MATRIX_DIR (where wheels are kept) may be set; pip's own
# settings say which index it is. Arguments are versions to try instead.
set -u

oldest=0.31.2
flags="-std=c++20 -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Werror=return-type"
src=$(cd "$(dirname "$0")/src" && pwd) || exit 2
cxx=${CXX:-c++}
python=${PYTHON:-python3}
dir=${SHIM_MATRIX_DIR:-build/shim-matrix}

# The wheel that holds headers and library, and how its system links.
if [ "$(uname)" = Darwin ]; then
  package=mlx-metal library=libmlxdyno.dylib strict="-Wl,-undefined,error"
else
  package=mlx-cpu library=libmlxdyno.so strict="-Wl,-z,defs -Wl,--disable-new-dtags"
fi

mkdir -p "$dir" || exit 2
dir=$(cd "$dir" && pwd)

if [ $# -gt 0 ]; then
  versions=$*
else
  listed=$("$python" -m pip index versions "$package" 2>"$dir/index.log") || { cat "$dir/index.log" >&2; exit 2; }
  versions=$(printf '%s\n' "$listed" | sed -n 's/^Available versions: //p' | tr ',' '\n' | tr -d ' ' |
    { cat; echo "$oldest"; } | sort -Vu | sed -n "/^$oldest\$/,\$p")
fi
[ -n "$versions" ] || { echo "the index lists no version of $package from $oldest on" >&2; exit 2; }

# unpack VERSION: the wheel's contents in $dir/VERSION.
unpack() {
  [ -f "$dir/$1/mlx/include/mlx/mlx.h" ] && return
  "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --dest "$dir/wheels" "$package==$1" || return
  rm -rf "$dir/$1.part" &&
    "$python" -m zipfile -e "$dir/wheels/$(echo $package | tr - _)-$1"-*.whl "$dir/$1.part" &&
    rm -rf "${dir:?}/$1" && mv "$dir/$1.part" "$dir/$1"
}

# build VERSION: an object of each unit, all at once, then the library.
build() {
  mlx=$dir/$1/mlx out=$dir/out/$1 jobs=
  rm -rf "$out" && mkdir -p "$out" || return
  for unit in "$src"/*.cpp; do
    object=$out/$(basename "$unit").o
    $cxx $flags -Werror -isystem "$mlx/include" -c "$unit" -o "$object" 2>"$object.log" &
    jobs="$jobs $!"
  done
  failed=0
  for job in $jobs; do
    wait "$job" || failed=1
  done
  [ $failed = 0 ] || return
  $cxx -shared -o "$out/$library" "$out"/*.o -L"$mlx/lib" -lmlx -Xlinker -rpath -Xlinker "$mlx/lib" $strict 2>"$out/link.log"
}

# load VERSION: says what the library says.
load() {
  "$python" - "$dir/out/$1/$library" "$1" 2>"$dir/out/$1/load.log" <<'PYTHON'
import ctypes, os, sys

library = ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW)
abi, version = library.mlxd_abi, library.mlxd_mlx_version
abi.restype, version.restype = ctypes.c_int64, ctypes.c_char_p
said = version().decode()
print(f"ABI {abi()}, MLX {said}")
sys.exit(said != sys.argv[2])
PYTHON
}

echo "$($cxx --version | head -n 1)"
bad=0
for version in $versions; do
  began=$(date +%s) said=
  if ! unpack "$version"; then
    result="FAILED to get the wheel"
  elif ! build "$version"; then
    result="FAILED to compile"
  elif ! said=$(load "$version"); then
    result="FAILED to load"
  else
    result=ok
  fi
  printf '%-10s %4d s  %s %s\n' "$version" $(($(date +%s) - began)) "$result" "${said:+($said)}"
  if [ "$result" != ok ]; then
    bad=1
    cat "$dir/out/$version"/*.log 2>/dev/null | grep -E 'error|undefined|Error' | head -n 8 | sed 's/^/    /'
  fi
done
exit $bad
