// Package install finds and makes the Python environment in which MLX and
// mlx-lm live, and the library that binds Go to that MLX.
//
// Find reads a stamp: it starts no process and takes well under a millisecond,
// so every command may call it first. Ensure does what it takes for Find to
// succeed: it makes a virtual environment, installs a fixed list of wheels,
// builds the library that gives MLX on a Linux CPU a fast BLAS, compiles the
// binding (package shim) against MLX's headers, and proves the result with a
// self-test in a process of its own.
//
// Each set-up gets a fresh directory under Home/env, and the stamp, written
// last and atomically, names the one that counts. So a set-up that failed or
// was killed has changed nothing; the next one clears what it left. A process
// that the killed one left behind can at worst write into a directory that
// nobody reads.
//
// The list of packages is complete and exact, and pip resolves nothing: two
// machines with the same backend run the same versions. Where packages come
// from is the user's own pip configuration.
//
// Another version of mlxdyno may need another binding. Only that is then built:
// everything that was downloaded stays. Libraries lie in a directory for each
// of what they were made of, so that programs that run keep theirs.
//
// An environment that the user already has can be adopted instead
// (Options.Venv); it is checked, and never changed: its binding lies in Home.
package install
