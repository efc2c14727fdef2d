package command

import (
	"fmt"
	"slices"
	"syscall"
	"time"
)

// rung is a step of the ladder that ends a patient.
type rung int

const (
	untouched   rung = iota
	interrupted      // SIGINT
	terminated       // SIGTERM
	killed           // SIGKILL
)

const (
	killWait   = 30 * time.Second       // for a kernel that is slow to free a large process
	lastBreath = 300 * time.Millisecond // for children that end with their parent
	between    = 10 * time.Millisecond  // two looks at the table
)

// descend ends the patient and returns the rung that did it.
func (s *supervisor) descend() (rung, error) {
	s.tree.signalGroup(syscall.SIGINT)
	if s.gone(s.Ladder.Interrupt) {
		return interrupted, nil
	}
	s.tree.signalAll(syscall.SIGTERM, s.alive())
	if s.gone(s.Ladder.Terminate) {
		return terminated, nil
	}
	s.tree.signalAll(syscall.SIGKILL, append(s.alive(), s.cmd.Process.Pid))
	if s.gone(killWait) {
		return killed, nil
	}
	return killed, survives(s.cmd.Process.Pid)
}

func survives(pid int) error {
	return fmt.Errorf("end patient: process %d survives SIGKILL, which means that it hangs inside the kernel or a driver: restart the machine before another training", pid)
}

func (s *supervisor) gone(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-s.exited:
			return true
		case <-timer.C:
			return false
		case <-tick.C:
			s.alive() // whom it starts now is known later
		}
	}
}

func (s *supervisor) alive() []int {
	table, err := processes()
	if err != nil {
		return nil
	}
	return s.tree.update(table)
}

// sweep ends what an ended patient left behind and returns how many processes
// that were.
func (s *supervisor) sweep() (left int, err error) {
	remain := func() []int {
		table, err := processes()
		if err != nil {
			return nil
		}
		return slices.DeleteFunc(s.tree.sweep(table), func(pid int) bool { return pid == s.cmd.Process.Pid })
	}
	wait := func(d time.Duration) []int {
		alive := remain()
		for end := time.Now().Add(d); len(alive) > 0 && time.Now().Before(end); alive = remain() {
			time.Sleep(between)
		}
		return alive
	}
	alive := wait(lastBreath)
	if left = len(alive); left == 0 {
		return 0, nil
	}
	s.tree.signalAll(syscall.SIGTERM, alive)
	if alive = wait(min(s.Ladder.Terminate, time.Second)); len(alive) == 0 {
		return left, nil
	}
	for end := time.Now().Add(killWait); time.Now().Before(end); { // again, for those that are started meanwhile
		s.tree.signalAll(syscall.SIGKILL, alive)
		if alive = wait(20 * between); len(alive) == 0 {
			return left, nil
		}
	}
	return left, survives(alive[0])
}
