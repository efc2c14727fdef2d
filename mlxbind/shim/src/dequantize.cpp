// Dense matrices of packed ones.
//
// MLX's CUDA kernel for this has a thread write two numbers. Training makes a
// dense matrix of every packed one twice a step, so on CUDA a kernel of ours does
// it, in which a thread reads a word and writes whole vectors.
#include <map>
#include <tuple>

#include "shim.h"

namespace mlxd {
namespace {

#if MLX_VERSION_NUMERIC >= 32000

constexpr const char* kSource = R"(
  constexpr int kCount = 32 / BITS;
  const size_t word = cg::this_grid().thread_rank();
  if (word >= size_t(w_shape[0]) * size_t(w_shape[1])) return;
  const size_t first = word * kCount;
  const uint32_t packed = w[word];
  const float scale = static_cast<float>(scales[first / GROUP]);
  const float bias = static_cast<float>(biases[first / GROUP]);
  alignas(16) T values[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    values[i] = static_cast<T>(scale * static_cast<float>((packed >> (BITS * i)) & ((1u << BITS) - 1)) + bias);
  }
  constexpr int kVector = sizeof(values) < 16 ? 8 : 16;
  struct alignas(kVector) Vector { char bytes[kVector]; };
#pragma unroll
  for (int i = 0; i < int(sizeof(values)) / kVector; ++i) {
    reinterpret_cast<Vector*>(out + first)[i] = reinterpret_cast<const Vector*>(values)[i];
  }
)";

mx::array unpack(const mx::array& w, const mx::array& scales, const mx::array& biases, int group, int bits) {
  static const auto kernel = mx::fast::cuda_kernel("mlxdyno_dequantize", {"w", "scales", "biases"}, {"out"}, kSource);
  const int words = w.shape(1);
  const mx::Dtype dtype = scales.dtype();
  return kernel({w, scales, biases}, {mx::Shape{w.shape(0), words * (32 / bits)}}, {dtype},
                {narrow(static_cast<i64>(w.size())), 1, 1}, {256, 1, 1},
                {{"T", dtype}, {"BITS", bits}, {"GROUP", group}}, std::nullopt, false, {})[0];
}

// Whether it works here: a kernel is compiled when it is first used, and what
// comes out is held against MLX's own.
bool works(mx::Dtype dtype, int group, int bits) {
  static std::map<std::tuple<int, int, int>, bool> known;
  const auto key = std::make_tuple(static_cast<int>(dtype.val()), group, bits);
  if (auto it = known.find(key); it != known.end()) return it->second;
  bool good = false;
  try {
    auto x = mx::astype(mx::random::normal({4, 2 * group}, mx::float32, mx::random::key(0)), dtype);
    auto q = mx::quantize(x, group, bits);
    auto apart = mx::max(mx::abs(mx::subtract(mx::astype(unpack(q[0], q[1], q[2], group, bits), mx::float32),
                                              mx::astype(mx::dequantize(q[0], q[1], q[2], group, bits), mx::float32))));
    good = apart.item<float>() <= 0.05f;  // numbers of about 1, in at worst 8 binary digits
  } catch (const std::exception&) {
  }
  known[key] = good;
  return good;
}

#endif

}  // namespace

mx::array dequantized(const mx::array& w, const mx::array& scales, const std::optional<mx::array>& biases, int group, int bits) {
#if MLX_VERSION_NUMERIC >= 32000
  static const bool cuda = mx::cu::is_available();
  if (cuda && mx::default_device() == mx::Device::gpu && biases && w.ndim() == 2 && w.dtype() == mx::uint32 && (bits == 4 || bits == 8) &&
      w.size() < (size_t(1) << 31) && works(scales.dtype(), group, bits)) {
    return unpack(w, scales, *biases, group, bits);
  }
#endif
  return mx::dequantize(w, scales, biases, group, bits);
}

}  // namespace mlxd
