package redact

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func jane() *Redactor {
	return New(Who{
		Homes: []string{"/Volumes/fast/jane", "/root"}, Users: []string{"jane", "Jane Doe", "root"}, Hosts: []string{"janes-studio.example.org", "localhost"},
		Environ: []string{"OPENAI_API_KEY=abc-def-ghi-jkl", "SHELL=/opt/homebrew/bin/fish", "PROJECT=nightingale", "X=1"},
	})
}

func TestText(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"a home", "read /Volumes/fast/jane/models/x: no such file", "read ~/models/x: no such file"},
		{"the home of root", "/root/.cache", "~/.cache"},
		{"no home", "/rooted and /Volumes/fast/janet/x", "/rooted and /Volumes/fast/janet/x"},
		{"somebody's home on a Mac", "/Users/bob/models", "~/models"},
		{"somebody's home on Linux", "file:///home/bob-2/a b", "file://~/a b"},
		{"a home on Windows", `C:\Users\Bob\x`, `~\x`},
		{"a user", "started by Jane, (jane@studio) for Jane Doe.", "started by [user], ([user]@studio) for [user]."},
		{"users side by side", "jane jane jane", "[user] [user] [user]"},
		{"part of a word", "janeway", "janeway"},
		{"a host", "ring: janes-studio.example.org:7000 and janes-studio", "ring: [host]:7000 and [host]"},
		{"ordinary names", "root on localhost", "root on localhost"},
		{"a secret of the environment", "header abc-def-ghi-jkl sent", "header [secret] sent"},
		{"a variable as env prints it", "PROJECT=nightingale two", "PROJECT=[environment]"},
		{"a variable as Python prints it", "{'PROJECT': 'night in gale', 'SHELL': \"fish\"}", "{'PROJECT': [environment], 'SHELL': [environment]}"},
		{"somebody else's variable", "ok\nAWS_REGION=eu-1 x\nok", "ok\nAWS_REGION=[environment]\nok"},
		{"a token of the hub", "token hf_AbCdEfGhIjKlMn used", "token [secret] used"},
		{"a key", "sk-proj-abcdefghijkl0123", "[secret]"},
		{"a token of a forge", "ghp_abcdefghijklmnopqrst12", "[secret]"},
		{"a web token", "eyJhbGciOiJI.eyJzdWIiOiIx.sig_na-ture", "[secret]"},
		{"a header", "Authorization: Bearer abcdefgh1234", "Authorization: [secret] [secret]"},
		{"a parameter", "https://x.org/?a=1&api_key=zzzz9999&b=2", "https://x.org/?a=1&api_key=[secret]&b=2"},
		{"a password in an address", "https://bob:hunter2@x.org/simple", "https://[secret]@x.org/simple"},
		{"a password", "password = 'hunter2'", "password = '[secret]'"},
		{"a private key", "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb", "a\n[secret]\nb"},
		{"a private key, cut off", "-----BEGIN PRIVATE KEY-----\nMIIE", "[secret]"},
		{"an address", "write to bob.b@example.com", "write to [email]"},
		{"counts of tokens", "tokens: 200, token: 512, max_token=2048", "tokens: 200, token: 512, max_token=2048"},
		{"what doctors say", "sudo sysctl iogpu.wired_limit_mb=0; mlxdyno doctor --rank 8", "sudo sysctl iogpu.wired_limit_mb=0; mlxdyno doctor --rank 8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := jane().Text(tc.text); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	got, err := jane().JSON([]byte(`{"a":["/Users/bob/x",12345678901234567890,null,true],"/Users/bob":1.50,"hf_token":"short","token":"","password":["x"],"tokens":"two"}`))
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"~/x"`, "12345678901234567890", `"~": 1.50`, `"hf_token": "[secret]"`, `"token": ""`, `"tokens": "two"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("lacks %s: %s", want, got)
		}
	}
	if strings.Contains(string(got), `"x"`) || strings.Contains(string(got), "bob") {
		t.Errorf("something is left: %s", got)
	}
	if _, err := jane().JSON([]byte(`{"a":`)); err == nil {
		t.Error("half a document was redacted")
	}
}

func TestTrainingText(t *testing.T) {
	data := `{"prompt": "What did the old lighthouse keeper write in his diary?", "completion": "Nothing new"}
{"messages": [{"role": "user", "content": "私の名前は太郎です"}]}
not json but seven words of plain text
{"text": "single"}`
	log := `step 3: row "the old Lighthouse Keeper,  write?" loss 2.5
skipping: did the old lighthouse keeper WRITE in his own
answer was nothing new; single
名前は太郎で
not json but seven words`
	r := jane()
	if err := r.Learn(strings.NewReader(data), log); err != nil {
		t.Fatal(err)
	}
	want := `step 3: row "[text]?" loss 2.5
skipping: [text] own
answer was [text]; single
[text]
[text]`
	if got := r.Text(log); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What is redacted holds nothing more to redact, and no planted secret.
func FuzzText(f *testing.F) {
	f.Add("/Users/jane/x token=hf_abcdefgh12 ", "jane")
	f.Add("PROJECT: 'a' -----BEGIN PRIVATE KEY-----", "\xff\xfe")
	strict, learned := jane(), jane()
	f.Fuzz(func(t *testing.T, a, b string) {
		const secret = "hf_Zq8sTq8sTq8s"
		got := strict.Text(a + " " + secret + " /Users/jane/x " + b)
		if strings.Contains(got, secret) || strings.Contains(got, "/Users/jane/") {
			t.Fatalf("%q", got)
		}
		r := learned
		if err := r.Learn(strings.NewReader(a+"\n"+b), a, b); err != nil {
			t.Fatal(err)
		}
		r.Text(b)
		doc, err := json.Marshal(map[string]string{a: b})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := r.JSON(doc); err != nil || !json.Valid(out) {
			t.Fatal(err, string(out))
		}
	})
}

func BenchmarkLearn(b *testing.B) {
	line := fmt.Sprintf("{\"text\": %q}\n", strings.Repeat("many words that stand in a row of text ", 50))
	data := strings.Repeat(line, 500)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := jane().Learn(strings.NewReader(data), "a short log with words"); err != nil {
			b.Fatal(err)
		}
	}
}
