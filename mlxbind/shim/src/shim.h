// The frame of every exported function.
//
// The boundary carries 64-bit integers and pointers alone: a double travels as
// its bits, a string as a pointer to its bytes. The first argument is a buffer
// for the words of an error. No exception leaves this library, and no array is
// touched by another thread than the one that opened it.
//
// Arrays stay in a table here and go out as handles of 32 bits of generation
// and 32 bits of place, so that one which was freed is told from its successor.
#pragma once

#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "mlx/mlx.h"

// The integers of this boundary; a change of any signature changes it.
#define MLXD_ABI 2

#define API extern "C" __attribute__((visibility("default")))

namespace mlxd {

namespace mx = mlx::core;

using i64 = int64_t;
using u64 = uint64_t;
using Arrays = std::vector<mx::array>;
using Function = std::function<Arrays(const Arrays&)>;

constexpr size_t kErrorBytes = 1024;
constexpr u64 kNone = 0;             // no array; an error has words
constexpr u64 kForeign = ~u64(0);    // called from another thread
constexpr i64 kFailed = INT64_MIN;   // of functions that answer with a number
constexpr i64 kForeignNumber = INT64_MIN + 1;

inline void say(char* err, const char* words) noexcept {
  if (err) {
    std::strncpy(err, words, kErrorBytes - 1);
    err[kErrorBytes - 1] = 0;
  }
}

bool is_owner() noexcept;

// The table of arrays.
u64 keep(mx::array a);
const mx::array& at(u64 handle);  // throws when it was freed
bool is_kept(u64 handle) noexcept;
void drop(u64 handle);            // nothing, when it was freed before
i64 kept() noexcept;
void drop_all();

// Runs f, which makes an array; returns its handle.
template <class F>
u64 make(char* err, F&& f) noexcept {
  if (!is_owner()) return kForeign;
  try {
    return keep(f());
  } catch (const std::exception& e) {
    say(err, e.what());
  } catch (...) {
    say(err, "an exception that is no std::exception");
  }
  return kNone;
}

// Runs f, which answers with a number that is neither kFailed nor kForeignNumber.
template <class F>
i64 answer(char* err, F&& f) noexcept {
  if (!is_owner()) return kForeignNumber;
  try {
    return f();
  } catch (const std::exception& e) {
    say(err, e.what());
  } catch (...) {
    say(err, "an exception that is no std::exception");
  }
  return kFailed;
}

// Go's side of a call: gets ownership of the handles of in, appends to *out by
// mlxd_return, and answers 0, or not 0 when it failed and has noted why.
typedef i64 (*Callback)(u64 function, const u64* in, i64 n, Arrays* out);

// A function of Go as one of MLX.
Function from_go(Callback call, u64 function);

// The dense matrix of a packed one.
mx::array dequantized(const mx::array& w, const mx::array& scales, const std::optional<mx::array>& biases, int group, int bits);

inline double number(u64 bits) {
  double d;
  std::memcpy(&d, &bits, sizeof d);
  return d;
}

inline std::optional<mx::array> maybe(u64 handle) {
  return handle ? std::optional<mx::array>(at(handle)) : std::nullopt;
}

inline Arrays list(const u64* handles, i64 n) {
  Arrays v;
  v.reserve(n);
  for (i64 i = 0; i < n; i++) v.push_back(at(handles[i]));
  return v;
}

inline int narrow(i64 v) {
  if (v < INT32_MIN || v > INT32_MAX) throw std::invalid_argument("the number " + std::to_string(v) + " does not fit 32 bits");
  return static_cast<int>(v);
}

inline mx::Shape shape(const i64* sizes, i64 n) {
  mx::Shape s;
  for (i64 i = 0; i < n; i++) s.push_back(narrow(sizes[i]));
  return s;
}

inline std::vector<int> ints(const i64* values, i64 n) {
  mx::Shape s = shape(values, n);
  return std::vector<int>(s.begin(), s.end());
}

inline mx::Dtype dtype(i64 code) {
  switch (code) {
    case 0: return mx::bool_;
    case 1: return mx::uint8;
    case 2: return mx::uint16;
    case 3: return mx::uint32;
    case 4: return mx::uint64;
    case 5: return mx::int8;
    case 6: return mx::int16;
    case 7: return mx::int32;
    case 8: return mx::int64;
    case 9: return mx::float16;
    case 10: return mx::float32;
    case 11: return mx::float64;
    case 12: return mx::bfloat16;
    case 13: return mx::complex64;
  }
  throw std::invalid_argument("no dtype has the code " + std::to_string(code));
}

}  // namespace mlxd
