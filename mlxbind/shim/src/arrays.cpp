// Arrays: their table, making and reading them, and the operations on them.
#include <atomic>
#include <cmath>

#include "shim.h"

using namespace mlxd;

namespace mlxd {

struct Slot {
  std::optional<mx::array> array;
  uint32_t generation = 1;
};

// Never destroyed: at the end of the process MLX may be gone before it.
struct Table {
  std::vector<Slot> slots;
  std::vector<uint32_t> vacant;
};

static std::atomic<i64> live{0};  // read by any thread

static Table& table() {
  static Table* t = new Table;
  return *t;
}

u64 keep(mx::array a) {
  Table& t = table();
  if (t.vacant.empty()) {
    if (t.slots.size() >= UINT32_MAX - 1) throw std::length_error("too many arrays");
    t.vacant.reserve(t.slots.size() + 1);  // so that drop allocates nothing
    t.slots.emplace_back();
    t.vacant.push_back(static_cast<uint32_t>(t.slots.size() - 1));
  }
  uint32_t place = t.vacant.back();
  t.vacant.pop_back();
  Slot& s = t.slots[place];
  s.array.emplace(std::move(a));
  live.fetch_add(1, std::memory_order_relaxed);
  return static_cast<u64>(s.generation) << 32 | place;
}

static Slot* find(u64 handle) noexcept {
  Table& t = table();
  uint32_t place = static_cast<uint32_t>(handle);
  if (place >= t.slots.size()) return nullptr;
  Slot& s = t.slots[place];
  return s.array && s.generation == static_cast<uint32_t>(handle >> 32) ? &s : nullptr;
}

bool is_kept(u64 handle) noexcept { return find(handle) != nullptr; }

const mx::array& at(u64 handle) {
  if (handle == kNone) throw std::invalid_argument("an array is missing");
  Slot* s = find(handle);
  if (!s) throw std::invalid_argument("an array is used after it was freed");
  return *s->array;
}

void drop(u64 handle) {
  Slot* s = find(handle);
  if (!s) return;
  s->array.reset();
  live.fetch_sub(1, std::memory_order_relaxed);
  if (++s->generation == 0) s->generation = 1;  // 0 would make a handle of nothing
  table().vacant.push_back(static_cast<uint32_t>(handle));
}

i64 kept() noexcept { return live.load(std::memory_order_relaxed); }

void drop_all() {
  Table& t = table();
  for (size_t i = 0; i < t.slots.size(); i++)
    if (t.slots[i].array) drop(static_cast<u64>(t.slots[i].generation) << 32 | i);
}

// An array without dimensions. For integers a fraction is cut off.
static mx::array scalar(double v, mx::Dtype d) {
  if (d == mx::float64) return mx::array(v, d);
  if (mx::issubdtype(d, mx::inexact)) return mx::array(static_cast<float>(v), d);
  if (d == mx::bool_) return mx::array(v != 0);
  if (v >= -0x1p63 && v < 0x1p63) return mx::array(static_cast<i64>(v), d);
  if (v >= 0x1p63 && v < 0x1p64) return mx::array(static_cast<u64>(v), d);
  throw std::invalid_argument("the number " + std::to_string(v) + " is no integer of 64 bits");
}

// Like MLX in Python: a plain number takes the dtype of the array it meets,
// unless that would cut a fraction off or the array is boolean.
static mx::array number_like(const mx::array& a, double v) {
  if (mx::issubdtype(a.dtype(), mx::inexact)) return scalar(v, a.dtype());
  if (v != std::trunc(v) || v < -0x1p63 || v >= 0x1p63) return scalar(v, mx::float32);
  if (a.dtype() != mx::bool_) return scalar(v, a.dtype());
  return scalar(v, std::abs(v) < 0x1p31 ? mx::int32 : mx::int64);
}

template <class T>
static mx::array copy_in(const void* data, mx::Shape s, mx::Dtype d) {
  return mx::array(static_cast<const T*>(data), std::move(s), d);
}

}  // namespace mlxd

API i64 mlxd_free(char* err, const u64* handles, i64 n) {
  return answer(err, [&] {
    for (i64 i = 0; i < n; i++) drop(handles[i]);
    return 0;
  });
}

// Moves the handles that are still in use to the front; returns their number.
API i64 mlxd_in_use(char* err, u64* handles, i64 n) {
  return answer(err, [&] {
    i64 m = 0;
    for (i64 i = 0; i < n; i++)
      if (is_kept(handles[i])) handles[m++] = handles[i];
    return m;
  });
}

// out: dimensions, dtype, size, bytes, then up to 8 sizes.
API i64 mlxd_describe(char* err, u64 a, i64* out) {
  return answer(err, [&] {
    const mx::array& x = at(a);
    if (x.ndim() > 8) throw std::invalid_argument("an array of more than 8 dimensions");
    out[0] = static_cast<i64>(x.ndim());
    out[1] = static_cast<i64>(x.dtype().val());
    out[2] = static_cast<i64>(x.size());
    out[3] = static_cast<i64>(x.nbytes());
    for (size_t i = 0; i < x.ndim(); i++) out[4 + i] = x.shape()[i];
    return 0;
  });
}

API u64 mlxd_scalar(char* err, u64 bits, i64 d) {
  return make(err, [&] { return scalar(number(bits), dtype(d)); });
}

API u64 mlxd_from(char* err, const void* data, const i64* sizes, i64 dims, i64 d) {
  return make(err, [&] {
    mx::Dtype t = dtype(d);
    mx::Shape s = shape(sizes, dims);
    switch (mx::size_of(t)) {
      case 1: return mx::view(copy_in<uint8_t>(data, s, mx::uint8), t);
      case 2: return mx::view(copy_in<uint16_t>(data, s, mx::uint16), t);
      case 4: return t == mx::float32  ? copy_in<float>(data, s, t)
                   : t == mx::int32    ? copy_in<int32_t>(data, s, t)
                                       : mx::view(copy_in<uint32_t>(data, s, mx::uint32), t);
      default: return mx::view(copy_in<u64>(data, s, mx::uint64), t);
    }
  });
}

// Copies the elements, row by row, to dst, which holds exactly that many bytes.
// The array is computed first.
API i64 mlxd_copy(char* err, u64 a, void* dst, i64 bytes) {
  return answer(err, [&] {
    mx::array c = mx::contiguous(at(a));
    c.eval();
    if (static_cast<i64>(c.nbytes()) != bytes)
      throw std::invalid_argument("an array of " + std::to_string(c.nbytes()) + " bytes does not fit " + std::to_string(bytes));
    if (c.nbytes()) std::memcpy(dst, c.data<char>(), c.nbytes());
    return 0;
  });
}

API i64 mlxd_eval(char* err, const u64* handles, i64 n) {
  return answer(err, [&] { mx::eval(list(handles, n)); return 0; });
}

API i64 mlxd_async_eval(char* err, const u64* handles, i64 n) {
  return answer(err, [&] { mx::async_eval(list(handles, n)); return 0; });
}

API i64 mlxd_is_computed(char* err, u64 a) {
  return answer(err, [&] { return at(a).is_available() ? 1 : 0; });
}

API u64 mlxd_full(char* err, u64 bits, const i64* sizes, i64 dims, i64 d) {
  return make(err, [&] {
    mx::Dtype t = dtype(d);
    return mx::full(shape(sizes, dims), scalar(number(bits), t), t);
  });
}

API u64 mlxd_arange(char* err, u64 start, u64 stop, u64 step, i64 d) {
  return make(err, [&] { return mx::arange(number(start), number(stop), number(step), dtype(d)); });
}

#define UNARY(NAME, EXPRESSION) \
  API u64 mlxd_##NAME(char* err, u64 a) { \
    return make(err, [&]() -> mx::array { const mx::array& x = at(a); return EXPRESSION; }); \
  }

UNARY(negative, mx::negative(x))
UNARY(abs, mx::abs(x))
UNARY(exp, mx::exp(x))
UNARY(log, mx::log(x))
UNARY(sqrt, mx::sqrt(x))
UNARY(rsqrt, mx::rsqrt(x))
UNARY(square, mx::square(x))
UNARY(sin, mx::sin(x))
UNARY(cos, mx::cos(x))
UNARY(tanh, mx::tanh(x))
UNARY(sigmoid, mx::sigmoid(x))
UNARY(isfinite, mx::isfinite(x))
UNARY(logical_not, mx::logical_not(x))
UNARY(stop_gradient, mx::stop_gradient(x))
UNARY(contiguous, mx::contiguous(x))
UNARY(zeros_like, mx::zeros_like(x))
UNARY(sum_all, mx::sum(x))
UNARY(mean_all, mx::mean(x))

#define BINARY(NAME, EXPRESSION) \
  API u64 mlxd_##NAME(char* err, u64 a, u64 b) { \
    return make(err, [&]() -> mx::array { const mx::array &x = at(a), &y = at(b); return EXPRESSION; }); \
  }

BINARY(add, mx::add(x, y))
BINARY(subtract, mx::subtract(x, y))
BINARY(multiply, mx::multiply(x, y))
BINARY(divide, mx::divide(x, y))
BINARY(power, mx::power(x, y))
BINARY(maximum, mx::maximum(x, y))
BINARY(minimum, mx::minimum(x, y))
BINARY(matmul, mx::matmul(x, y))
BINARY(equal, mx::equal(x, y))
BINARY(greater, mx::greater(x, y))
BINARY(greater_equal, mx::greater_equal(x, y))
BINARY(less, mx::less(x, y))
BINARY(less_equal, mx::less_equal(x, y))
BINARY(logical_and, mx::logical_and(x, y))
BINARY(logical_or, mx::logical_or(x, y))

// The same with a plain number on the right, which takes the array's dtype.
#define WITH_NUMBER(NAME, EXPRESSION) \
  API u64 mlxd_##NAME##_number(char* err, u64 a, u64 bits) { \
    return make(err, [&]() -> mx::array { \
      const mx::array& x = at(a); \
      mx::array y = number_like(x, number(bits)); \
      return EXPRESSION; \
    }); \
  }

WITH_NUMBER(add, mx::add(x, y))
WITH_NUMBER(multiply, mx::multiply(x, y))
WITH_NUMBER(divide, mx::divide(x, y))
WITH_NUMBER(power, mx::power(x, y))
WITH_NUMBER(maximum, mx::maximum(x, y))
WITH_NUMBER(minimum, mx::minimum(x, y))
WITH_NUMBER(greater_equal, mx::greater_equal(x, y))
WITH_NUMBER(less, mx::less(x, y))

#define REDUCE(NAME) \
  API u64 mlxd_##NAME(char* err, u64 a, i64 axis, i64 keep_dims) { \
    return make(err, [&] { return mx::NAME(at(a), narrow(axis), keep_dims != 0); }); \
  }

REDUCE(sum)
REDUCE(mean)
REDUCE(max)
REDUCE(min)
REDUCE(argmax)
REDUCE(logsumexp)

API u64 mlxd_softmax(char* err, u64 a, i64 axis, i64 precise) {
  return make(err, [&] { return mx::softmax(at(a), narrow(axis), precise != 0); });
}

API u64 mlxd_where(char* err, u64 condition, u64 a, u64 b) {
  return make(err, [&] { return mx::where(at(condition), at(a), at(b)); });
}

API u64 mlxd_addmm(char* err, u64 c, u64 a, u64 b) {
  return make(err, [&] { return mx::addmm(at(c), at(a), at(b)); });
}

API u64 mlxd_astype(char* err, u64 a, i64 d) {
  return make(err, [&] { return mx::astype(at(a), dtype(d)); });
}

API u64 mlxd_view(char* err, u64 a, i64 d) {
  return make(err, [&] { return mx::view(at(a), dtype(d)); });
}

API u64 mlxd_reshape(char* err, u64 a, const i64* sizes, i64 dims) {
  return make(err, [&] {
    mx::Shape s = shape(sizes, dims);
    for (int n : s)
      if (n < -1) throw std::invalid_argument("a size below -1");  // MLX takes two of them for a positive number
    return mx::reshape(at(a), s);
  });
}

API u64 mlxd_broadcast_to(char* err, u64 a, const i64* sizes, i64 dims) {
  return make(err, [&] { return mx::broadcast_to(at(a), shape(sizes, dims)); });
}

// Without axes it reverses all of them.
API u64 mlxd_transpose(char* err, u64 a, const i64* axes, i64 n) {
  return make(err, [&] { return n ? mx::transpose(at(a), ints(axes, n)) : mx::transpose(at(a)); });
}

API u64 mlxd_expand_dims(char* err, u64 a, i64 axis) {
  return make(err, [&] { return mx::expand_dims(at(a), narrow(axis)); });
}

API u64 mlxd_squeeze(char* err, u64 a, i64 axis) {
  return make(err, [&] { return mx::squeeze(at(a), narrow(axis)); });
}

API u64 mlxd_slice(char* err, u64 a, const i64* start, const i64* stop, i64 dims) {
  return make(err, [&] { return mx::slice(at(a), shape(start, dims), shape(stop, dims)); });
}

API u64 mlxd_take(char* err, u64 a, u64 indices, i64 axis) {
  return make(err, [&] { return mx::take(at(a), at(indices), narrow(axis)); });
}

API u64 mlxd_take_along_axis(char* err, u64 a, u64 indices, i64 axis) {
  return make(err, [&] { return mx::take_along_axis(at(a), at(indices), narrow(axis)); });
}

API u64 mlxd_concatenate(char* err, const u64* handles, i64 n, i64 axis) {
  return make(err, [&] { return mx::concatenate(list(handles, n), narrow(axis)); });
}

API u64 mlxd_sort(char* err, u64 a, i64 axis) {
  return make(err, [&] { return mx::sort(at(a), narrow(axis)); });
}

API u64 mlxd_argsort(char* err, u64 a, i64 axis) {
  return make(err, [&] { return mx::argsort(at(a), narrow(axis)); });
}

API u64 mlxd_cumsum(char* err, u64 a, i64 axis) {
  return make(err, [&] { return mx::cumsum(at(a), narrow(axis)); });
}

// Fused operations. Where MLX changed a signature, the versions meet here.

API u64 mlxd_rms_norm(char* err, u64 a, u64 weight, u64 epsilon) {
  return make(err, [&] { return mx::fast::rms_norm(at(a), maybe(weight), static_cast<float>(number(epsilon))); });
}

API u64 mlxd_layer_norm(char* err, u64 a, u64 weight, u64 bias, u64 epsilon) {
  return make(err, [&] { return mx::fast::layer_norm(at(a), maybe(weight), maybe(bias), static_cast<float>(number(epsilon))); });
}

// Frequencies replace the base when they are given.
API u64 mlxd_rope(char* err, u64 a, i64 dims, i64 traditional, u64 base, u64 scale, i64 offset, u64 frequencies) {
  return make(err, [&] {
    std::optional<float> b;
    if (!frequencies) b = static_cast<float>(number(base));
    return mx::fast::rope(at(a), narrow(dims), traditional != 0, b, static_cast<float>(number(scale)),
                          narrow(offset), maybe(frequencies));
  });
}

API u64 mlxd_attention(char* err, u64 q, u64 k, u64 v, u64 scale, i64 causal, u64 mask) {
  return make(err, [&] {
    float s = static_cast<float>(number(scale));
    std::string mode = causal ? "causal" : mask ? "array" : "";
    return mx::fast::scaled_dot_product_attention(at(q), at(k), at(v), s, mode, maybe(mask));
  });
}

API u64 mlxd_cross_entropy(char* err, u64 logits, u64 targets) {
  return make(err, [&]() -> mx::array {
#if MLX_VERSION_NUMERIC >= 32002
    return mx::fast::cross_entropy(at(logits), at(targets));
#else
    (void)logits, (void)targets;
    throw std::runtime_error("fused cross entropy needs MLX 0.32.2 or later");
#endif
  });
}

static int positive(i64 v) {
  if (v <= 0) throw std::invalid_argument("groups and bits are above 0");  // MLX divides by them
  return narrow(v);
}

// Quantization. out: weight, scales, biases.
API i64 mlxd_quantize(char* err, u64 w, i64 group, i64 bits, u64* out) {
  return answer(err, [&] {
    Arrays parts = mx::quantize(at(w), positive(group), positive(bits));
    if (parts.size() != 3) throw std::runtime_error("quantize made " + std::to_string(parts.size()) + " arrays instead of 3");
    for (int i = 0; i < 3; i++) out[i] = keep(std::move(parts[i]));
    return 3;
  });
}

API u64 mlxd_dequantize(char* err, u64 w, u64 scales, u64 biases, i64 group, i64 bits) {
  return make(err, [&] { return dequantized(at(w), at(scales), maybe(biases), positive(group), positive(bits)); });
}

API u64 mlxd_quantized_matmul(char* err, u64 x, u64 w, u64 scales, u64 biases, i64 transpose, i64 group, i64 bits) {
  return make(err, [&] {
    return mx::quantized_matmul(at(x), at(w), at(scales), maybe(biases), transpose != 0, positive(group), positive(bits));
  });
}

// Random numbers, all from explicit keys.

API u64 mlxd_random_key(char* err, u64 seed) {
  return make(err, [&] { return mx::random::key(seed); });
}

// out: two keys.
API i64 mlxd_random_split(char* err, u64 key, u64* out) {
  return answer(err, [&] {
    auto halves = mx::random::split(at(key));
    out[0] = keep(halves.first);
    out[1] = keep(halves.second);
    return 2;
  });
}

API u64 mlxd_random_uniform(char* err, u64 low, u64 high, const i64* sizes, i64 dims, i64 d, u64 key) {
  return make(err, [&] {
    return mx::random::uniform(mx::array(static_cast<float>(number(low))), mx::array(static_cast<float>(number(high))),
                               shape(sizes, dims), dtype(d), at(key));
  });
}

API u64 mlxd_random_normal(char* err, u64 mean, u64 deviation, const i64* sizes, i64 dims, i64 d, u64 key) {
  return make(err, [&] {
    return mx::random::normal(shape(sizes, dims), dtype(d), static_cast<float>(number(mean)), static_cast<float>(number(deviation)), at(key));
  });
}

API u64 mlxd_random_bernoulli(char* err, u64 p, const i64* sizes, i64 dims, u64 key) {
  return make(err, [&] { return mx::random::bernoulli(mx::array(static_cast<float>(number(p))), shape(sizes, dims), at(key)); });
}

API u64 mlxd_random_categorical(char* err, u64 logits, i64 axis, u64 key) {
  return make(err, [&] { return mx::random::categorical(at(logits), narrow(axis), at(key)); });
}
