// The process around the arrays: its thread, functions over arrays, memory,
// devices, files, other processes.
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <unordered_map>
#include <variant>

#include "mlx/version.h"
#include "shim.h"

using namespace mlxd;

namespace mlxd {

static thread_local bool owner = false;
static std::atomic<bool> opened{false};

static Arrays results;  // of the latest mlxd_call, until they are collected

bool is_owner() noexcept { return owner; }

}  // namespace mlxd

// These may be called from any thread, and before mlxd_open.
API i64 mlxd_abi() { return MLXD_ABI; }
API i64 mlxd_built_for() { return MLX_VERSION_NUMERIC; }
API const char* mlxd_mlx_version() { return mx::version(); }
API i64 mlxd_is_owner() { return is_owner() ? 1 : 0; }
API i64 mlxd_live() { return kept(); }

// Makes this thread the one that may call the rest. Fails when there is one.
API i64 mlxd_open(char* err) {
  if (opened.exchange(true)) {
    say(err, "this process has a runtime already");
    return kFailed;
  }
  owner = true;
  return 0;
}

API i64 mlxd_close(char* err) {
  i64 status = answer(err, [] { mx::synchronize(); return 0; });
  if (status == kForeignNumber) return status;
  // Whatever was wrong with the work, this thread gives up everything.
  i64 dropped = answer(err, [] {
    results.clear();
    drop_all();
    mx::clear_cache();
#if MLX_VERSION_NUMERIC >= 32000
    mx::clear_streams();  // of this thread, which ends
#endif
    return 0;
  });
  owner = false;
  opened = false;
  return status ? status : dropped;
}

API i64 mlxd_synchronize(char* err) {
  return answer(err, [] { mx::synchronize(); return 0; });
}

// Functions.

namespace mlxd {

Function from_go(Callback call, u64 function) {
  return [call, function](const Arrays& in) -> Arrays {
    std::vector<u64> handles;
    handles.reserve(in.size());
    for (const mx::array& a : in) handles.push_back(keep(a));
    Arrays out;
    if (call(function, handles.data(), static_cast<i64>(handles.size()), &out) != 0)
      throw std::runtime_error("the function failed");
    return out;
  };
}

}  // namespace mlxd

// Returned as a pointer; null is an error.
template <class F>
static Function* function(char* err, F&& f) noexcept {
  Function* made = nullptr;
  i64 status = answer(err, [&] {
    made = new Function(f());
    return 0;
  });
  if (status == kForeignNumber) return reinterpret_cast<Function*>(kForeign);
  return made;
}

API i64 mlxd_return(char* err, Arrays* out, const u64* handles, i64 n) {
  return answer(err, [&] {
    for (i64 i = 0; i < n; i++) out->push_back(at(handles[i]));
    return 0;
  });
}

// The values of the function, then the gradients of the first of them with
// respect to the inputs that argnums lists.
API Function* mlxd_value_and_grad(char* err, Callback call, u64 f, const i64* argnums, i64 n) {
  return function(err, [&]() -> Function {
    std::vector<int> asked = ints(argnums, n);
    auto g = mx::value_and_grad(from_go(call, f), asked);
    return [g, asked](const Arrays& in) {
      auto [out, gradients] = g(in);
      // MLX sorts them by input.
      std::vector<int> inputs(asked);
      for (int& i : inputs)
        if (i < 0) i += static_cast<int>(in.size());
      std::vector<int> sorted(inputs);
      std::sort(sorted.begin(), sorted.end());
      for (int i : inputs) out.push_back(gradients.at(std::lower_bound(sorted.begin(), sorted.end(), i) - sorted.begin()));
      return out;
    };
  });
}

API Function* mlxd_compile(char* err, Callback call, u64 f, i64 shapeless) {
  return function(err, [&] { return mx::compile(from_go(call, f), shapeless != 0); });
}

API Function* mlxd_checkpoint(char* err, Callback call, u64 f) {
  return function(err, [&] { return mx::checkpoint(from_go(call, f)); });
}

// The gradient function gets inputs, cotangents and outputs, one after another,
// and returns one gradient for each input.
API Function* mlxd_custom_vjp(char* err, Callback call, u64 f, u64 gradient) {
  return function(err, [&] {
    Function g = from_go(call, gradient);
    return mx::custom_vjp(from_go(call, f), [g](const Arrays& in, const Arrays& cotangents, const Arrays& out) {
      Arrays all(in);
      all.insert(all.end(), cotangents.begin(), cotangents.end());
      all.insert(all.end(), out.begin(), out.end());
      Arrays gradients = g(all);
      if (gradients.size() != in.size()) throw std::invalid_argument("a gradient has another number of arrays than its function has inputs");
      for (size_t i = 0; i < in.size(); i++)
        if (gradients[i].shape() != in[i].shape()) throw std::invalid_argument("a gradient has another shape than input " + std::to_string(i));
      return gradients;
    });
  });
}

// Returns the number of results, which mlxd_results then hands out.
API i64 mlxd_call(char* err, Function* f, const u64* in, i64 n) {
  return answer(err, [&] {
    results = (*f)(list(in, n));
    return static_cast<i64>(results.size());
  });
}

API i64 mlxd_results(char* err, u64* out) {
  return answer(err, [&] {
    Arrays all = std::exchange(results, {});
    for (mx::array& a : all) *out++ = keep(std::move(a));
    return 0;
  });
}

API i64 mlxd_free_function(char* err, Function* f) {
  return answer(err, [&] { delete f; return 0; });
}

API i64 mlxd_enable_compile(char* err, i64 on) {
  return answer(err, [&] { on ? mx::enable_compile() : mx::disable_compile(); return 0; });
}

// Memory.

// out: active, peak, cache, limit.
API i64 mlxd_memory(char* err, i64* out) {
  return answer(err, [&] {
    out[0] = static_cast<i64>(mx::get_active_memory());
    out[1] = static_cast<i64>(mx::get_peak_memory());
    out[2] = static_cast<i64>(mx::get_cache_memory());
    out[3] = static_cast<i64>(mx::get_memory_limit());
    return 0;
  });
}

API i64 mlxd_reset_peak(char* err) {
  return answer(err, [] { mx::reset_peak_memory(); return 0; });
}

API i64 mlxd_clear_cache(char* err) {
  return answer(err, [] { mx::clear_cache(); return 0; });
}

// Each returns the limit that was in force before.
API i64 mlxd_set_memory_limit(char* err, i64 bytes) {
  return answer(err, [&] { return static_cast<i64>(mx::set_memory_limit(static_cast<size_t>(bytes))); });
}

API i64 mlxd_set_cache_limit(char* err, i64 bytes) {
  return answer(err, [&] { return static_cast<i64>(mx::set_cache_limit(static_cast<size_t>(bytes))); });
}

API i64 mlxd_set_wired_limit(char* err, i64 bytes) {
  return answer(err, [&] { return static_cast<i64>(mx::set_wired_limit(static_cast<size_t>(bytes))); });
}

// Bytes of the buffers behind arrays that are computed, each buffer once.
API i64 mlxd_buffer_bytes(char* err, const u64* handles, i64 n) {
  return answer(err, [&]() -> i64 {
#if MLX_VERSION_NUMERIC >= 32003
    return static_cast<i64>(mx::get_array_buffer_size(list(handles, n)));
#else
    (void)handles, (void)n;
    throw std::runtime_error("the size of buffers needs MLX 0.32.3 or later");
#endif
  });
}

// Devices.

// Writes "kind\n", then "key=value\n" for each property, to out.
API i64 mlxd_device(char* err, char* out, i64 capacity) {
  return answer(err, [&] {
    const mx::Device d = mx::default_device();
    std::string text = d == mx::Device::cpu ? "cpu\n" : mx::metal::is_available() ? "metal\n" : "cuda\n";
    for (const auto& [key, value] : mx::device_info(d)) {
      text += key + "=";
      if (auto s = std::get_if<std::string>(&value)) text += *s;
      if (auto n = std::get_if<size_t>(&value)) text += std::to_string(*n);
      text += "\n";
    }
    if (static_cast<i64>(text.size()) > capacity) throw std::length_error("the description of the device is too long");
    std::memcpy(out, text.data(), text.size());
    return static_cast<i64>(text.size());
  });
}

API i64 mlxd_use_cpu(char* err) {
  return answer(err, [] { mx::set_default_device(mx::Device(mx::Device::cpu)); return 0; });
}

// Files.

struct Tensors {
  std::vector<std::pair<std::string, mx::array>> all;
};

// Null is an error. The arrays are read from the file when they are computed.
API Tensors* mlxd_open_safetensors(char* err, const char* path) {
  Tensors* t = nullptr;
  i64 status = answer(err, [&] {
    auto loaded = mx::load_safetensors(std::string(path));
    t = new Tensors;
    for (auto& [name, a] : loaded.first) t->all.emplace_back(name, a);
    return 0;
  });
  if (status == kForeignNumber) return reinterpret_cast<Tensors*>(kForeign);
  return t;
}

API i64 mlxd_count_tensors(char* err, Tensors* t) {
  return answer(err, [&] { return static_cast<i64>(t->all.size()); });
}

// Returns the length of the name, which it writes to name.
API i64 mlxd_tensor(char* err, Tensors* t, i64 i, char* name, i64 capacity, u64* array) {
  return answer(err, [&] {
    auto& [n, a] = t->all.at(static_cast<size_t>(i));
    if (static_cast<i64>(n.size()) > capacity) throw std::length_error("a tensor's name has " + std::to_string(n.size()) + " bytes");
    std::memcpy(name, n.data(), n.size());
    *array = keep(a);
    return static_cast<i64>(n.size());
  });
}

API i64 mlxd_close_safetensors(char* err, Tensors* t) {
  return answer(err, [&] { delete t; return 0; });
}

// names: n names one after another, each closed by a zero byte.
API i64 mlxd_save_safetensors(char* err, const char* path, const char* names, const u64* handles, i64 n) {
  return answer(err, [&] {
    std::unordered_map<std::string, mx::array> all;
    for (i64 i = 0; i < n; i++) {
      std::string name(names);
      names += name.size() + 1;
      all.insert_or_assign(name, at(handles[i]));
    }
    mx::save_safetensors(std::string(path), all, {{"format", "mlx"}});
    return 0;
  });
}

// Other processes.

// Threads that are started while it lives are told by an error that whom they write to
// is gone. By the signal the process would end: of a thread that is not Go's, Go does
// not take it.
struct NoBrokenPipes {
  sigset_t before;
  NoBrokenPipes() {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
  }
  ~NoBrokenPipes() { pthread_sigmask(SIG_SETMASK, &before, nullptr); }
};

API mx::distributed::Group* mlxd_join(char* err, i64 strict, const char* backend) {
  mx::distributed::Group* g = nullptr;
  i64 status = answer(err, [&] {
    NoBrokenPipes sockets;
    g = new mx::distributed::Group(mx::distributed::init(strict != 0, backend));
    return 0;
  });
  if (status == kForeignNumber) return reinterpret_cast<mx::distributed::Group*>(kForeign);
  return g;
}

API i64 mlxd_group_rank(char* err, mx::distributed::Group* g) {
  return answer(err, [&] { return static_cast<i64>(g->rank()); });
}

API i64 mlxd_group_size(char* err, mx::distributed::Group* g) {
  return answer(err, [&] { return static_cast<i64>(g->size()); });
}

API i64 mlxd_leave(char* err, mx::distributed::Group* g) {
  return answer(err, [&] { delete g; return 0; });
}

API u64 mlxd_all_sum(char* err, u64 a, mx::distributed::Group* g) {
  return make(err, [&] { return mx::distributed::all_sum(at(a), *g); });
}
