package mlxbind

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

const members = 2

// ring makes what MLX wants to know of the processes of a ring on this machine.
func ring(t *testing.T) (environment func(rank int) []string) {
	t.Helper()
	var hosts [][]string
	for range members {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, []string{l.Addr().String()})
		defer l.Close()
	}
	text, err := json.Marshal(hosts)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hosts.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return func(rank int) []string {
		return []string{"MLX_RANK=" + strconv.Itoa(rank), "MLX_HOSTFILE=" + path}
	}
}

func TestSumsOverARing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	environment := ring(t)
	results := make(chan error, members)
	for rank := range members {
		go func() {
			text, err := start(ctx, "member", environment(rank)...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("member %d: %w, %s", rank, err, text)
			}
			results <- err
		}()
	}
	for range members {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// summed is a process of the ring.
func summed() error {
	rank, err := strconv.Atoi(os.Getenv("MLX_RANK"))
	if err != nil {
		return err
	}
	return rt.Do(context.Background(), func(s *Scope) error {
		g, err := s.Join("ring", true)
		if err != nil {
			return err
		}
		defer g.Leave(s)
		if g.Rank != rank || g.Size != members {
			return fmt.Errorf("%d of %d", g.Rank, g.Size)
		}
		for _, d := range []DType{Float32, BFloat16, Int32} {
			for n := 1; n < 100_000; n *= 7 {
				v, err := s.ReadFloat32s(s.AllSum(s.Full(float64(rank+1), d, n), g))
				if err != nil {
					return err
				}
				if len(v) != n || slices.Min(v) != 3 || slices.Max(v) != 3 {
					return fmt.Errorf("1 + 2 of %d %v is %v to %v", n, d, slices.Min(v), slices.Max(v))
				}
			}
		}
		return nil
	})
}

func TestOnesOwnGroup(t *testing.T) {
	do(t, func(s *Scope) error {
		g, err := s.Join("any", false)
		if err != nil {
			return err
		}
		if g.Rank != 0 || g.Size != 1 {
			t.Errorf("%d of %d", g.Rank, g.Size)
		}
		if v, err := s.Item(s.AllSum(s.Scalar(5, Float32), g)); v != 5 {
			t.Error(v, err)
		}
		g.Leave(s)
		g.Leave(s) // is left already
		return s.Err()
	})
}

// A member that dies is an error of those that wait for it, not silence.
func TestAMemberDies(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	environment := ring(t)
	survivor, victim := start(ctx, "survivor", environment(0)...), start(ctx, "sleeper", environment(1)...)
	survivor.Stderr = os.Stderr
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(survivor.Start(), victim.Start()); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	if err := survivor.Wait(); err != nil {
		t.Errorf("%v; it hung: %t", err, ctx.Err() != nil)
	}
}

// survived is a process that sums until the other dies, and wants to be told.
func survived() error {
	return untilTheEnd(func(error) bool { return true }, func() {})
}

// slept is the process that dies: it takes part until it is killed.
func slept() error {
	once := false
	return untilTheEnd(func(error) bool { return false }, func() {
		if !once {
			fmt.Println("taking part")
			once = true
		}
	})
}

func untilTheEnd(expected func(error) bool, summed func()) error {
	err := rt.Do(context.Background(), func(s *Scope) error {
		g, err := s.Join("ring", true)
		if err != nil {
			return fmt.Errorf("join: %w", err)
		}
		for {
			err := s.Child(func(c *Scope) error {
				_, err := c.Item(c.SumAll(c.AllSum(c.Full(1, Float32, 1000), g)))
				return err
			})
			if err != nil {
				g.Leave(s)
				return err
			}
			summed()
		}
	})
	var e *Error
	if !errors.As(err, &e) || !expected(err) {
		return fmt.Errorf("the sum: %w", err)
	}
	// What needs no other goes on.
	return rt.Do(context.Background(), func(s *Scope) error {
		if v, err := s.Item(s.Add(s.Scalar(1, Float32), s.Scalar(2, Float32))); v != 3 {
			return fmt.Errorf("1 + 2 is %v, %w", v, err)
		}
		return nil
	})
}
