package command

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// place makes a working directory with files, named by their paths, and sends
// what is redirected elsewhere.
func place(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestGuard(t *testing.T) {
	const adapters = "adapters/adapters.safetensors=x"
	for _, tc := range []struct {
		name  string
		files []string
		argv  string
		want  string // TMP for the new directory, CWD for the working directory
		code  string // of the last note
		err   string
	}{
		{"nothing there", nil, "mlx_lm.lora --train", "same", "guard.free", ""},
		{"an empty directory", []string{"adapters/"}, "mlx_lm.lora --train", "same", "guard.free", ""},
		{"the default directory", []string{adapters}, "mlx_lm.lora --train --iters 5", "mlx_lm.lora --adapter-path TMP --train --iters 5", "guard.redirected", ""},
		{"the subcommand", []string{adapters}, "/opt/bin/mlx_lm lora --train", "/opt/bin/mlx_lm lora --adapter-path TMP --train", "guard.redirected", ""},
		{"a module", []string{adapters}, "python3.12 -u -m mlx_lm lora --train", "python3.12 -u -m mlx_lm lora --adapter-path TMP --train", "guard.redirected", ""},
		{"the old module", []string{adapters}, "python -X dev -mmlx_lm.lora --train", "python -X dev -mmlx_lm.lora --adapter-path TMP --train", "guard.redirected", ""},
		{"the source file", []string{adapters}, "python src/mlx_lm/lora.py --train", "python src/mlx_lm/lora.py --adapter-path TMP --train", "guard.redirected", ""},
		{"the script behind Python", []string{adapters}, "python bin/mlx_lm.lora --train", "python bin/mlx_lm.lora --adapter-path TMP --train", "guard.redirected", ""},
		{"behind wrappers", []string{adapters}, "env A=b nohup uv run mlx_lm.lora --train", "env A=b nohup uv run mlx_lm.lora --adapter-path TMP --train", "guard.redirected", ""},
		{"the flag", []string{"mine/a=x"}, "mlx_lm.lora --adapter-path mine --train", "mlx_lm.lora --adapter-path TMP --train", "guard.redirected", ""},
		{"the flag joined", []string{"mine/a=x"}, "mlx_lm.lora --adapter-path=mine --train", "mlx_lm.lora --adapter-path=TMP --train", "guard.redirected", ""},
		{"the flag shortened", []string{"mine/a=x"}, "mlx_lm.lora --ad mine --train", "mlx_lm.lora --ad TMP --train", "guard.redirected", ""},
		{"the flag twice, the last counts", []string{"mine/a=x"}, "mlx_lm.lora --adapter-path new --adapter-path mine --train", "mlx_lm.lora --adapter-path TMP --adapter-path TMP --train", "guard.redirected", ""},
		{"the flag leads elsewhere", []string{adapters}, "mlx_lm.lora --train --adapter-path new", "same", "guard.free", ""},
		{"a flag's value looks like a flag", []string{adapters}, "mlx_lm.lora --data --adapter-path --train", "mlx_lm.lora --adapter-path TMP --data --adapter-path --train", "guard.redirected", ""},
		{"an absolute path", []string{"mine/a=x"}, "mlx_lm.lora --train --adapter-path CWD/mine", "mlx_lm.lora --train --adapter-path TMP", "guard.redirected", ""},
		{"a configuration", []string{"mine/a=x", "c.yaml=adapter_path: mine\ntrain: true\n"}, "mlx_lm.lora -c c.yaml", "mlx_lm.lora --adapter-path TMP -c c.yaml", "guard.redirected", ""},
		{"a configuration, joined", []string{"mine/a=x", "c.yaml=adapter_path: mine\ntrain: true\n"}, "mlx_lm.lora -cc.yaml", "mlx_lm.lora --adapter-path TMP -cc.yaml", "guard.redirected", ""},
		{"a configuration, shortened", []string{"mine/a=x", "c.yaml=adapter_path: mine\ntrain: true\n"}, "mlx_lm.lora --conf=c.yaml", "mlx_lm.lora --adapter-path TMP --conf=c.yaml", "guard.redirected", ""},
		{"a configuration without a path", []string{adapters, "c.yaml=train: true\n"}, "mlx_lm.lora -c c.yaml", "mlx_lm.lora --adapter-path TMP -c c.yaml", "guard.redirected", ""},
		{"the flag outranks the configuration", []string{"mine/a=x", "c.yaml=adapter_path: mine\ntrain: true\n"}, "mlx_lm.lora -c c.yaml --adapter-path new", "same", "guard.free", ""},
		{"a configuration that is missing", nil, "mlx_lm.lora -c c.yaml", "", "", "where mlx_lm writes is not known"},
		{"a configuration that is broken", []string{"c.yaml=[\n"}, "mlx_lm.lora -c c.yaml --train", "", "", "c.yaml"},
		{"a path that is none", []string{"c.yaml=adapter_path: [a]\n"}, "mlx_lm.lora -c c.yaml --train", "", "", "adapter_path is [a], which is no path"},
		{"a file in the way", []string{"adapters=x"}, "mlx_lm.lora --train", "", "", "is a file, not a directory"},
		{"testing only", []string{adapters}, "mlx_lm.lora --test", "same", "guard.no-training", ""},
		{"a configuration that does not train", []string{adapters, "c.yaml=train: no\n"}, "mlx_lm.lora -c c.yaml --test", "same", "guard.no-training", ""},
		{"help", []string{adapters}, "mlx_lm.lora --train --help", "same", "guard.no-training", ""},
		{"another subcommand", []string{adapters}, "mlx_lm generate", "same", "guard.unknown", ""},
		{"a search for it", []string{adapters}, "grep mlx_lm.lora --train", "same", "guard.unknown", ""},
		{"a script of one's own", []string{adapters}, "python train.py -m mlx_lm.lora", "same", "guard.unknown", ""},
		{"a shell", []string{adapters}, "sh -c mlx_lm.lora", "same", "guard.unknown", ""},

		{"your_ai, a fresh directory", nil, "your_ai train --model M --metrics-file m.jsonl", "same", "guard.free", ""},
		{"your_ai, results", []string{"checkpoints/a=x"}, "your_ai train --model M", "", "", "your_ai has no flag for where it saves"},
		{"your_ai, an empty directory of results", []string{"checkpoints/"}, "your_ai train --model M", "same", "guard.free", ""},
		{"your_ai, weights", []string{"best.safetensors=x"}, "target/release/your_ai train", "", "", "best.safetensors"},
		{"your_ai, metrics", []string{"m.jsonl=x"}, "your_ai train --metrics-file m.jsonl", "your_ai train --metrics-file TMP/m.jsonl", "guard.free", ""},
		{"your_ai, metrics joined", []string{"m.jsonl=x"}, "your_ai train --metrics-file=m.jsonl", "your_ai train --metrics-file=TMP/m.jsonl", "guard.free", ""},
		{"your_ai, another command", []string{"checkpoints/a=x"}, "your_ai recommend --memory 96", "same", "guard.no-training", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cwd := place(t, tc.files...)
			argv := strings.Fields(strings.ReplaceAll(tc.argv, "CWD", cwd))
			before := slices.Clone(argv)
			got, notes, err := Guard(argv, cwd)
			if !slices.Equal(argv, before) {
				t.Errorf("the caller's words were changed: %q", argv)
			}
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || got != nil {
					t.Fatalf("got %q, %v; want %q", got, err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			made := ""
			for _, n := range notes {
				if n.Dir != "" {
					made = n.Dir
				}
			}
			if made != "" {
				if info, err := os.Stat(made); err != nil || !info.IsDir() {
					t.Errorf("its new directory: %v", err)
				}
			}
			want := strings.ReplaceAll(tc.want, "TMP", made)
			if tc.want == "same" {
				want = strings.Join(before, " ")
			}
			if strings.Join(got, " ") != want {
				t.Errorf("got %q, want %q", strings.Join(got, " "), want)
			}
			if n := len(notes); n == 0 || notes[n-1].Code != tc.code {
				t.Errorf("notes %+v, want %s", notes, tc.code)
			}
		})
	}
}

// Its flags are known: one that it lacks is named before it is run.
func TestGuardNamesFlagsThatYourAILacks(t *testing.T) {
	_, notes, err := Guard(strings.Fields("your_ai train --quantize 4 --resume x --batch-size 1"), place(t))
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, n := range notes {
		codes = append(codes, n.Code)
	}
	if got := strings.Join(codes, " "); got != "guard.unknown-flag guard.resume-ignored guard.free" {
		t.Errorf("%s: %+v", got, notes)
	}
}

func TestGuardOfNothing(t *testing.T) {
	if _, _, err := Guard(nil, "."); err == nil {
		t.Error("an empty command is none")
	}
}

// A path that cannot be looked into may hold anything.
func TestGuardRefusesWhatItCannotSee(t *testing.T) {
	cwd := place(t)
	if err := os.Symlink("loop", filepath.Join(cwd, "loop")); err != nil {
		t.Fatal(err)
	}
	if got, _, err := Guard([]string{"mlx_lm.lora", "--train", "--adapter-path", "loop"}, cwd); err == nil {
		t.Errorf("got %q", got)
	}
}

func FuzzGuard(f *testing.F) {
	f.Add("mlx_lm.lora --train --adapter-path=a -cx", "train: true\nadapter_path: a\n")
	f.Add("env A=b python -m mlx_lm lora --ad", "train: 1\n")
	f.Add("your_ai train --metrics-file", "")
	tmp := f.TempDir()
	f.Setenv("TMPDIR", tmp)
	cwd := f.TempDir()
	if err := os.MkdirAll(filepath.Join(cwd, "adapters", "a"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line, config string) {
		if _, err := parseMLXLMConfig([]byte(config)); err != nil && err.Error() == "" {
			t.Fatal("an error without words")
		}
		argv := strings.Fields(line)
		got, notes, err := Guard(argv, cwd)
		for _, n := range notes {
			if n.Dir != "" {
				os.RemoveAll(n.Dir)
			}
		}
		if err == nil && len(got) < len(argv) || err != nil && got != nil {
			t.Fatalf("%q became %q, %v", argv, got, err)
		}
	})
}
