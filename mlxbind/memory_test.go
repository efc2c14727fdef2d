package mlxbind

import (
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
)

func TestMemoryCountsBuffers(t *testing.T) {
	const bytes = 1 << 20
	do(t, func(s *Scope) error {
		key := s.RandomKey(1)
		if err := s.Eval(key); err != nil {
			return err
		}
		s.ClearCache()
		before := s.Memory()
		if before.Cache != 0 {
			t.Errorf("%d bytes are cached after clearing", before.Cache)
		}
		a := s.Normal(key, 0, 1, Float32, bytes/4)
		if m := s.Memory(); m.Active-before.Active > 64 { // a few scalars
			t.Error("what is not computed occupies memory")
		}
		if s.IsComputed(a) {
			t.Error("computed before Eval")
		}
		if err := s.Eval(a); err != nil {
			return err
		}
		if !s.IsComputed(a) {
			t.Error("not computed after Eval")
		}
		during := s.Memory()
		if n := during.Active - before.Active; n < bytes || n > bytes+64 { // scalars of the formula may remain
			t.Errorf("%d bytes became active instead of %d", n, bytes)
		}
		s.ResetPeak()
		b := s.Add(a, a)
		if err := s.Eval(b); err != nil {
			return err
		}
		if m := s.Memory(); m.Peak < before.Active+2*bytes || m.Peak != m.Active {
			t.Errorf("peak %d, active %d", m.Peak, m.Active)
		}
		if n := s.BufferBytes(a, b, a); n != 2*bytes {
			t.Errorf("two buffers occupy %d bytes", n)
		}
		s.Free(a, b)
		after := s.Memory()
		if after.Active != before.Active || after.Cache < bytes {
			t.Errorf("after: %+v, before: %+v", after, before)
		}
		s.ClearCache()
		if m := s.Memory(); m.Cache != 0 {
			t.Errorf("%d bytes are cached after clearing", m.Cache)
		}
		return s.Err()
	})
}

func TestLimits(t *testing.T) {
	do(t, func(s *Scope) error {
		was := s.Memory().Limit
		if was <= 0 {
			t.Errorf("limit %d", was)
		}
		if got := s.SetMemoryLimit(1 << 30); got != was {
			t.Errorf("the limit was %d, and setting another says %d", was, got)
		}
		if got := s.Memory().Limit; got != 1<<30 {
			t.Errorf("limit %d", got)
		}
		if got := s.SetMemoryLimit(was); got != 1<<30 {
			t.Errorf("limit %d", got)
		}

		cache := s.SetCacheLimit(0)
		for range 3 {
			s.Free(evaluated(s))
		}
		if n := s.Memory().Cache; n != 0 {
			t.Errorf("%d bytes are cached though nothing may be", n)
		}
		if got := s.SetCacheLimit(cache); got != 0 {
			t.Errorf("cache limit %d", got)
		}
		s.Free(evaluated(s))
		if s.Memory().Cache == 0 {
			t.Error("nothing is cached though it may be")
		}
		s.SetWiredLimit(s.SetWiredLimit(0))
		return s.Err()
	})
}

func evaluated(s *Scope) Array {
	a := s.Normal(s.RandomKey(1), 0, 1, Float32, 1000)
	s.Fail(s.Eval(a))
	return a
}

func TestDevice(t *testing.T) {
	do(t, func(s *Scope) error {
		d, err := s.Device()
		if err != nil || d.Kind != "cpu" || d.Properties["architecture"] == "" || d.Properties["device_name"] == "" {
			t.Errorf("%+v, %v", d, err)
		}
		if _, ok := d.Bytes("device_name"); ok {
			t.Error("a name is a number of bytes")
		}
		return err
	})
	if n, ok := (Device{Properties: map[string]string{"memory_size": "12"}}).Bytes("memory_size"); n != 12 || !ok {
		t.Error(n, ok)
	}
}

func TestVersionIsTheInstalledOne(t *testing.T) {
	home, err := install.Home()
	if err != nil {
		t.Fatal(err)
	}
	env, err := install.Find(home)
	if err != nil {
		t.Fatal(err)
	}
	if want := env.Versions["mlx"]; !strings.HasPrefix(rt.MLXVersion(), want) || want == "" {
		t.Errorf("MLX %s is loaded, %s is installed", rt.MLXVersion(), want)
	}
	if rt.atLeast(99, 0, 0) || !rt.atLeast(0, 31, 0) {
		t.Errorf("built for %d", rt.built)
	}
}

func TestSynchronizeWaits(t *testing.T) {
	do(t, func(s *Scope) error {
		a := s.Normal(s.RandomKey(1), 0, 1, Float32, 300, 300)
		b := s.MatMul(a, a)
		s.AsyncEval(b)
		if err := s.Synchronize(); err != nil {
			return err
		}
		if !s.IsComputed(b) {
			t.Error("not computed after waiting")
		}
		return s.Eval() // of nothing
	})
}
