package command

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

// sawPatient makes the test binary be a patient instead. Its value says what it
// does, in words that are done one after the other.
const sawPatient = "COMMAND_TEST_PATIENT"

func patient() {
	for word := range strings.FieldsSeq(os.Getenv(sawPatient)) {
		name, value, _ := strings.Cut(word, "=")
		n, _ := strconv.Atoi(value)
		switch name {
		case "tty":
			fmt.Println("a terminal:", term.IsTerminal(1), term.IsTerminal(2), term.IsTerminal(0))
		case "steps": // as mlx-lm prints them
			for i := range n {
				fmt.Printf("Iter %d: Train loss %.3f, Learning Rate 1.000e-05, It/sec 10.000, Tokens/sec 1000.000, Trained Tokens %d, Peak mem 1.000 GB\n", i+1, 2-0.01*float64(i), 100*(i+1))
				time.Sleep(5 * time.Millisecond)
			}
		case "plain": // as many programs print them
			for i := range n {
				fmt.Printf("step %d loss 2.5\n", i+1)
			}
		case "bar": // drawn over, never a newline
			for i := range n {
				fmt.Fprintf(os.Stderr, "\r[%ds] ##-- %d/%d ETA:1s loss: 2.%04d (avg: 2.00) | lr: 1.00e-05 | 0.1 steps/s | ETA: 1m | mem: 18.42 GB", i, i+1, n, i)
				time.Sleep(5 * time.Millisecond)
			}
		case "say":
			fmt.Println(strings.ReplaceAll(value, "_", " "))
		case "deaf":
			signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		case "stubborn":
			signal.Ignore(syscall.SIGINT)
		case "sleep":
			time.Sleep(time.Duration(n) * time.Millisecond)
		case "hold": // memory
			held := make([]byte, n<<20)
			for i := 0; i < len(held); i += 4096 {
				held[i] = 1
			}
			defer func() { held[0] = 2 }()
		case "child":
			startDeaf(false, value)
		case "runaway": // a session of its own, whose parent is gone at once
			if os.Getenv("COMMAND_TEST_TWICE") == "" {
				os.Setenv("COMMAND_TEST_TWICE", "1")
				middle := again("runaway=" + value)
				middle.Run() //nolint:errcheck // a test's
			} else {
				startDeaf(true, value)
			}
		case "flood":
			b := []byte(strings.Repeat("x", 99) + "\n")
			for range n << 10 {
				os.Stdout.Write(b)
			}
		case "exit":
			os.Exit(n)
		case "kill":
			syscall.Kill(os.Getpid(), syscall.Signal(n)) //nolint:errcheck // a test's
			time.Sleep(time.Second)
		}
	}
}

func again(script string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), sawPatient+"="+script)
	return cmd
}

// startDeaf starts another patient, deaf and without end, that writes its number to
// a file.
func startDeaf(own bool, path string) {
	cmd := again("deaf sleep=600000")
	cmd.Stdout = os.Stdout // holds the terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: own}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		panic(err)
	}
}
