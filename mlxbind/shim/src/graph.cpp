// Functions taken apart: what they compute, node by node, and functions made of
// some of the nodes.
#include <algorithm>
#include <memory>
#include <unordered_map>

#include "mlx/primitives.h"
#include "shim.h"

using namespace mlxd;

namespace mlxd {

struct Node {
  mx::array array;
  std::vector<i64> inputs;
  i64 first;  // node of the first output of its primitive
};

// Nodes are in an order in which they can be computed; all outputs of one
// primitive follow each other.
struct Graph {
  std::vector<Node> nodes;
  std::vector<i64> in, cotangents, out, gradients;
};

// What only hands its input on is no node: the input takes its place.
static const mx::array& behind(const mx::array& a) {
  const mx::array* x = &a;
  while (x->has_primitive()) {
    const std::string name = x->primitive().name();
    if (name == "Copy" || name == "StopGradient") {
      x = &x->inputs()[0];
    } else if (name == "CustomTransforms") {
      size_t outputs = x->siblings().size() + 1;
      x = &x->inputs()[x->inputs().size() - outputs + x->sibling_position()];
    } else {
      break;
    }
  }
  return *x;
}

class Builder {
 public:
  explicit Builder(Graph& g) : g_(g) {}

  i64 leaf(const mx::array& a) {
    i64 at = static_cast<i64>(g_.nodes.size());
    g_.nodes.push_back({a, {}, at});
    place_.emplace(a.id(), at);
    return at;
  }

  // The node of an array, with all that it needs before it.
  i64 node(const mx::array& wanted) {
    std::vector<mx::array> open{behind(wanted)};
    while (!open.empty()) {
      mx::array a = open.back();
      if (place_.count(a.id())) {
        open.pop_back();
        continue;
      }
      if (!a.has_primitive()) {
        leaf(a);
        open.pop_back();
        continue;
      }
      bool complete = true;
      std::vector<i64> inputs;
      for (const mx::array& input : a.inputs()) {
        const mx::array& b = behind(input);
        auto known = place_.find(b.id());
        if (known == place_.end()) {
          open.push_back(b);
          complete = false;
        } else {
          inputs.push_back(known->second);
        }
      }
      if (!complete) continue;
      open.pop_back();
      i64 first = static_cast<i64>(g_.nodes.size());
      for (const mx::array& each : a.outputs()) {
        place_.emplace(each.id(), static_cast<i64>(g_.nodes.size()));
        g_.nodes.push_back({each, inputs, first});
      }
    }
    return place_.at(behind(wanted).id());
  }

 private:
  Graph& g_;
  std::unordered_map<std::uintptr_t, i64> place_;
};

// Nodes as they are computed again.
struct Program {
  struct Step {
    std::shared_ptr<mx::Primitive> primitive;
    std::vector<size_t> inputs;
    std::vector<mx::Shape> shapes;
    std::vector<mx::Dtype> dtypes;
    size_t first;  // slot of its first output
  };
  struct Input {
    size_t slot;
    mx::Shape shape;
    mx::Dtype dtype;
  };
  size_t slots = 0;
  std::vector<Input> in;
  std::vector<std::pair<size_t, mx::array>> constants;
  std::vector<Step> steps;
  std::vector<size_t> out;

  Arrays run(const Arrays& given) const {
    if (given.size() != in.size())
      throw std::invalid_argument(std::to_string(given.size()) + " inputs instead of " + std::to_string(in.size()));
    std::vector<std::optional<mx::array>> slot(slots);
    for (size_t i = 0; i < in.size(); i++) {
      if (given[i].shape() != in[i].shape || given[i].dtype() != in[i].dtype)
        throw std::invalid_argument("input " + std::to_string(i) + " has another shape or type than when the function was taken apart");
      slot[in[i].slot].emplace(given[i]);
    }
    for (const auto& [at, a] : constants) slot[at].emplace(a);
    for (const Step& s : steps) {
      Arrays inputs;
      inputs.reserve(s.inputs.size());
      for (size_t i : s.inputs) inputs.push_back(*slot[i]);
      if (s.shapes.size() == 1) {
        slot[s.first].emplace(s.shapes[0], s.dtypes[0], s.primitive, std::move(inputs));
        continue;
      }
      Arrays made = mx::array::make_arrays(s.shapes, s.dtypes, s.primitive, inputs);
      for (size_t i = 0; i < made.size(); i++) slot[s.first + i].emplace(std::move(made[i]));
    }
    Arrays result;
    result.reserve(out.size());
    for (size_t i : out) result.push_back(*slot[i]);
    return result;
  }
};

// The nodes between in and out. A node that is asked for and is no input, but
// hangs on inputs of the whole that are not given, is an error.
static Program program(const Graph& g, const std::vector<i64>& in, const std::vector<i64>& out) {
  Program p;
  std::vector<i64> slot(g.nodes.size(), -1);
  std::vector<char> needed(g.nodes.size(), 0);
  for (i64 i : in) {
    const mx::array& a = g.nodes.at(i).array;
    if (slot[i] >= 0) throw std::invalid_argument("a node is an input twice");
    slot[i] = static_cast<i64>(p.slots++);
    p.in.push_back({static_cast<size_t>(slot[i]), a.shape(), a.dtype()});
  }
  for (i64 o : out) needed.at(o) = 1;
  for (i64 i = static_cast<i64>(g.nodes.size()) - 1; i >= 0; i--) {
    const Node& n = g.nodes[i];
    // Outputs of a primitive are made together, when one of them is needed.
    if (!needed[i] || slot[i] >= 0) continue;
    for (i64 k : n.inputs) needed[k] = 1;
  }
  std::vector<char> outside(g.nodes.size(), 0);
  for (i64 i : g.in) outside[i] = 1;
  for (i64 i : g.cotangents) outside[i] = 1;
  for (i64 i = 0; i < static_cast<i64>(g.nodes.size()); i++) {
    const Node& n = g.nodes[i];
    if (!needed[i] || slot[i] >= 0) continue;
    if (!n.array.has_primitive()) {
      if (outside[i]) throw std::invalid_argument("node " + std::to_string(i) + " is needed and not given");
      slot[i] = static_cast<i64>(p.slots++);
      p.constants.emplace_back(slot[i], n.array);
      continue;
    }
    Program::Step s;
    s.primitive = n.array.primitive_ptr();
    for (i64 k : n.inputs) s.inputs.push_back(slot[k]);
    s.first = p.slots;
    for (const mx::array& each : n.array.outputs()) {
      s.shapes.push_back(each.shape());
      s.dtypes.push_back(each.dtype());
    }
    // An output that is an input already keeps its place: what is given is used.
    for (size_t k = 0; k < s.shapes.size(); k++, p.slots++)
      if (i64& at = slot[n.first + static_cast<i64>(k)]; at < 0) at = static_cast<i64>(p.slots);
    p.steps.push_back(std::move(s));
  }
  for (i64 o : out) p.out.push_back(slot[o]);
  return p;
}

static std::vector<i64> longs(const i64* values, i64 n) { return std::vector<i64>(values, values + n); }

// Stands for any array of the shape and type of a.
static mx::array stand_in(const mx::array& a) { return mx::array(a.shape(), a.dtype(), nullptr, {}); }

}  // namespace mlxd

// Takes a function apart, and with wrt its gradient with respect to these
// inputs; cotangents have shapes and types of the function's values. Of all
// arrays only shapes and types matter. Null is an error.
API Graph* mlxd_graph(char* err, Callback call, u64 f, const u64* in, i64 n, const i64* wrt, i64 wrts, const u64* cotangents, i64 cots) {
  Graph* made = nullptr;
  i64 status = answer(err, [&] {
    auto g = std::make_unique<Graph>();
    Builder b(*g);
    Arrays all, weights, hats;
    for (i64 i = 0; i < n; i++) {
      all.push_back(stand_in(at(in[i])));
      g->in.push_back(b.leaf(all.back()));
    }
    for (i64 i = 0; i < cots; i++) {
      hats.push_back(stand_in(at(cotangents[i])));
      g->cotangents.push_back(b.leaf(hats.back()));
    }
    for (i64 i = 0; i < wrts; i++) weights.push_back(all.at(wrt[i]));
    Function go = from_go(call, f);
    Function run = [&](const Arrays& given) {
      Arrays whole(all);
      for (i64 i = 0; i < wrts; i++) whole[wrt[i]] = given[i];
      Arrays made = go(whole);
      if (wrts && static_cast<i64>(made.size()) != cots)
        throw std::invalid_argument(std::to_string(cots) + " cotangents for " + std::to_string(made.size()) + " results");
      return made;
    };
    Arrays out, gradients;
    if (wrts) {
      std::tie(out, gradients) = mx::vjp(run, weights, hats);
    } else {
      out = run({});
    }
    for (const mx::array& a : out) g->out.push_back(b.node(a));
    for (const mx::array& a : gradients) g->gradients.push_back(b.node(a));
    made = g.release();
    return 0;
  });
  if (status == kForeignNumber) return reinterpret_cast<Graph*>(kForeign);
  return made;
}

// out: numbers of nodes, values and gradients.
API i64 mlxd_graph_size(char* err, Graph* g, i64* out) {
  return answer(err, [&] {
    out[0] = static_cast<i64>(g->nodes.size());
    out[1] = static_cast<i64>(g->out.size());
    out[2] = static_cast<i64>(g->gradients.size());
    return 0;
  });
}

// out: nodes of inputs, cotangents, values and gradients, one after another.
API i64 mlxd_graph_ends(char* err, Graph* g, i64* out) {
  return answer(err, [&] {
    for (const auto* list : {&g->in, &g->cotangents, &g->out, &g->gradients}) out = std::copy(list->begin(), list->end(), out);
    return 0;
  });
}

// Writes the name of the node's primitive, none for a leaf, and to out: dtype,
// node of the first output of the primitive, dimensions, sizes, inputs. Returns
// how many numbers these are; when there is no room, only that.
API i64 mlxd_graph_node(char* err, Graph* g, i64 i, char* name, i64 room, i64* out, i64 capacity) {
  return answer(err, [&]() -> i64 {
    const Node& n = g->nodes.at(static_cast<size_t>(i));
    const mx::array& a = n.array;
    i64 count = 3 + static_cast<i64>(a.ndim() + n.inputs.size());
    if (count > capacity) return count;
    std::string words = a.has_primitive() ? a.primitive().name() : "";
    words.resize(std::min(words.size(), static_cast<size_t>(room - 1)));
    std::memcpy(name, words.c_str(), words.size() + 1);
    *out++ = static_cast<i64>(a.dtype().val());
    *out++ = n.first;
    *out++ = static_cast<i64>(a.ndim());
    for (int size : a.shape()) *out++ = size;
    std::copy(n.inputs.begin(), n.inputs.end(), out);
    return count;
  });
}

// The function from nodes to nodes, compiled or not. It outlives the graph.
API Function* mlxd_graph_part(char* err, Graph* g, const i64* in, i64 n, const i64* out, i64 m, i64 compiled) {
  Function* made = nullptr;
  i64 status = answer(err, [&] {
    auto p = std::make_shared<const Program>(program(*g, longs(in, n), longs(out, m)));
    Function f = [p](const Arrays& given) { return p->run(given); };
    made = new Function(compiled ? Function(mx::compile(f)) : f);
    return 0;
  });
  if (status == kForeignNumber) return reinterpret_cast<Function*>(kForeign);
  return made;
}

API i64 mlxd_free_graph(char* err, Graph* g) {
  return answer(err, [&] { delete g; return 0; });
}
