// Package mlxbind is MLX for Go: arrays, automatic differentiation, compiled
// functions, quantization and memory counters, enough to train a model.
//
//	rt, err := mlxbind.Open(mlxbind.Options{Shim: env.Shim, BLAS: env.BLASLibrary})
//	err = rt.Do(ctx, func(s *mlxbind.Scope) error {
//		x := s.Normal(s.RandomKey(1), 0, 1, mlxbind.Float32, 4, 8)
//		y := s.SumAll(s.Square(x))
//		return s.Eval(y)
//	})
//
// MLX is lazy, keeps its streams and traces per thread, and holds memory that
// Go's collector cannot see. Three rules follow, and this package enforces them.
//
// One thread. Everything happens inside [Runtime.Do], on a thread of its own.
// A Scope that is used from elsewhere records an error.
//
// Scopes. An array belongs to the Scope that made it and is freed with it. Keep
// lets one out to the parent, computed, since what is not computed would keep
// everything alive from which it comes. An array that is used after it was freed
// is an error, not a crash.
//
// Sticky errors. A formula is written as a formula: the first thing that goes
// wrong is kept in the Scope, what follows does nothing, and Err, Eval and the
// end of Do report it.
//
// MLX itself comes from its Python wheel; a small C++ library between the two
// (mlxbind/shim) is compiled on the user's machine by mlxbind/install. No cgo.
// docs/mlxbind.md says more about memory and threads.
package mlxbind
