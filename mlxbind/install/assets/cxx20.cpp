// Compiled and linked to find out whether a compiler takes MLX's headers.
#if defined(__clang__)
#if __clang_major__ < 14 // Xcode counts otherwise, and its 14 will do, too
#error too old for MLX: clang 14 or later is needed
#endif
#elif defined(__APPLE__)
#error not for MLX: on a Mac it is built with clang, whose C++ library GCC does not use
#elif defined(__GNUC__) && __GNUC__ < 11
#error too old for MLX: GCC 11 or later is needed
#endif

#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__linux__) && defined(_LIBCPP_VERSION)
#error not for MLX: on Linux it is built with libstdc++, and this is libc++
#endif

template <std::integral T>
static T sum(std::span<const T> values) {
  T total = 0;
  for (T v : values) total += v;
  return total;
}

extern "C" __attribute__((visibility("default"))) int64_t mlxdyno_probe(const char* text) {
  std::vector<int64_t> sizes;
  try {
    std::function<void(std::string)> add = [&](std::string s) { sizes.push_back(static_cast<int64_t>(s.size())); };
    add(text);
    if (sizes.empty()) throw std::runtime_error(text);
  } catch (const std::exception& e) {
    return -1;
  }
  return sum<int64_t>(sizes);
}
