#!/usr/bin/env bash
# Compiles the shim against the headers of every MLX on the package index, from
# the oldest that is supported to the newest, with warnings as errors.
set -euo pipefail
cd "$(dirname "$0")"
oldest=$(sed -n 's/.*Oldest = "\(.*\)"/\1/p' shim.go)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

versions=$("$python" -m pip index versions mlx-cpu 2>/dev/null | sed -n 's/^Available versions: //p' | tr -d ',' | tr ' ' '\n' |
  sort -V | awk -v oldest="$oldest" '$0 == oldest { from = 1 } from')
[ -n "$versions" ] || { echo "the package index names no version of mlx-cpu" >&2; exit 1; }
for v in $versions; do
  "$python" -m pip download -q --no-deps --only-binary=:all: --platform manylinux_2_35_x86_64 -d "$work" "mlx-cpu==$v"
  "$python" -m zipfile -e "$work"/mlx_cpu-"$v"-*.whl "$work/$v"
  for unit in src/*.cpp; do
    "${CXX:-c++}" -std=c++20 -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Werror -isystem "$work/$v/mlx/include" -c "$unit" -o "$work/$v/$(basename "$unit" .cpp).o"
  done
  "${CXX:-c++}" -shared -o "$work/$v/shim.so" "$work/$v"/*.o -L"$work/$v/mlx/lib" -lmlx -Wl,--no-undefined
  echo "mlx $v: compiles and links without warnings"
done
