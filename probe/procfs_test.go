package probe

import (
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
)

func tree(files map[string]string) procfs {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return procfs{root: fsys, pageBytes: 4096}
}

func TestProcfsMissing(t *testing.T) {
	var s Snapshot
	p := tree(nil)
	p.host(&s)
	p.memory(&s)
	p.pressure(&s)
	for name, reason := range map[string]string{
		"kernel":    s.Host.Kernel.Reason(),
		"available": s.Memory.AvailableBytes.Reason(),
		"swap used": s.Swap.UsedBytes.Reason(),
		"swap in":   s.Swap.InBytes.Reason(),
		"psi":       s.Pressure.SomeAvg10.Reason(),
		"oom kills": s.Pressure.OOMKills.Reason(),
	} {
		if reason != "does not exist" {
			t.Errorf("%s: reason %q", name, reason)
		}
	}
}

func TestProcfsMemory(t *testing.T) {
	for _, tc := range []struct {
		name, meminfo, vmstat string
		used, in              string
	}{
		{"swap in use", "SwapTotal: 100 kB\nSwapFree: 40 kB\n", "pswpin 3\npswpout 0\n", "61440", "12288"},
		{"no SwapFree line", "SwapTotal: 100 kB\n", "pswpout 0\n", "has no such line", "has no such line"},
		{"no SwapTotal line", "SwapFree: 100 kB\n", "pswpin -3\n", "has no such line", "has no such line"},
		{"another unit", "SwapTotal: 100 MB\nSwapFree: 40 kB\n", "pswpin 9223372036854775807\n", "has no such line", "is impossibly large"},
		{"more free than there is", "SwapTotal: 100 kB\nSwapFree: 140 kB\n", "pswpin 0\n", "0", "0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s Snapshot
			tree(map[string]string{"proc/meminfo": tc.meminfo, "proc/vmstat": tc.vmstat}).memory(&s)
			if got := show(s.Swap.UsedBytes); got != tc.used {
				t.Errorf("used %s, want %s", got, tc.used)
			}
			if got := show(s.Swap.InBytes); got != tc.in {
				t.Errorf("in %s, want %s", got, tc.in)
			}
		})
	}
}

func TestProcfsTexts(t *testing.T) {
	var s Snapshot
	tree(map[string]string{
		"proc/cpuinfo":                       "processor\t: 0\nBogoMIPS\t: 48.00\nCPU implementer\t: 0x41\n",
		"sys/firmware/devicetree/base/model": "Raspberry Pi 5 Model B Rev 1.0\x00",
		"proc/uptime":                        "NaN 1\n",
		"proc/loadavg":                       "\n",
		"etc/os-release":                     "ID=alpine\nPRETTY_NAME='Alpine Linux v3.20'\n",
		"proc/pressure/memory":               "some avg10=NaN avg60=0.00\nfull avg10=1.50 avg60=0.00\n",
	}).host(&s)
	for name, got := range map[string][2]string{
		"chip":     {show(s.Host.Chip), "its text is not understood"},
		"hardware": {show(s.Host.HardwareModel), "Raspberry Pi 5 Model B Rev 1.0"},
		"uptime":   {show(s.Host.UptimeSeconds), "its text is not understood"},
		"load":     {show(s.Host.Load1), "its text is not understood"},
		"os":       {show(s.Host.OSVersion), "Alpine Linux v3.20"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %q, want %q", name, got[0], got[1])
		}
	}
}

func TestParsePressure(t *testing.T) {
	got := parsePressure("some avg10=NaN avg60=0.00\nfull avg10=1.50 avg60=0.00 total=1\n\nshort\n")
	if _, ok := got["some"]; ok || got["full"] != 1.5 || len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

const (
	v2Mount     = "35 24 0:30 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	hybridMount = "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)

func TestCgroup(t *testing.T) {
	const none = "9223372036854771712\n"
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  *Cgroup
		limit string
		high  string
		usage string
		kills string
	}{
		{
			name: "version 2, an ancestor is tighter",
			files: map[string]string{
				"proc/self/cgroup": "0::/a.slice/b.scope\n", "proc/self/mountinfo": v2Mount,
				"sys/fs/cgroup/a.slice/memory.max": "1000\n", "sys/fs/cgroup/a.slice/memory.current": "900\n", "sys/fs/cgroup/a.slice/memory.high": "max\n",
				"sys/fs/cgroup/a.slice/b.scope/memory.max": "2000\n", "sys/fs/cgroup/a.slice/b.scope/memory.high": "1500\n",
				"sys/fs/cgroup/a.slice/b.scope/memory.current": "10\n", "sys/fs/cgroup/a.slice/b.scope/memory.events": "oom 4\noom_kill 3\n",
			},
			want: &Cgroup{Version: 2, Path: "/a.slice/b.scope"}, limit: "1000", high: "1500", usage: "900", kills: "3",
		},
		{
			name: "version 2, no limit and no controller",
			files: map[string]string{
				"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mount,
			},
			want: &Cgroup{Version: 2, Path: "/"}, limit: "no limit", high: "no limit", usage: "does not exist", kills: "does not exist",
		},
		{
			name: "version 1 beside version 2",
			files: map[string]string{
				"proc/self/cgroup": "4:memory:/box/x\n1:cpu,cpuacct:/\n0::/\n", "proc/self/mountinfo": hybridMount,
				"sys/fs/cgroup/memory/memory.limit_in_bytes": none, "sys/fs/cgroup/memory/box/memory.limit_in_bytes": none,
				"sys/fs/cgroup/memory/box/x/memory.limit_in_bytes": "4096000\n", "sys/fs/cgroup/memory/box/x/memory.usage_in_bytes": "4096\n",
				"sys/fs/cgroup/memory/box/x/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
			},
			want: &Cgroup{Version: 1, Path: "/box/x"}, limit: "4096000", high: "cgroup version 1 has none", usage: "4096", kills: "1",
		},
		{
			name: "version 1 in a container, limited by an ancestor out of sight",
			files: map[string]string{
				"proc/self/cgroup":                           "4:memory:/docker/abc\n",
				"proc/self/mountinfo":                        "36 31 0:33 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes": none, "sys/fs/cgroup/memory/memory.usage_in_bytes": "77\n",
				"sys/fs/cgroup/memory/memory.stat": "cache 0\nhierarchical_memory_limit 8192000\n",
			},
			want: &Cgroup{Version: 1, Path: "/docker/abc"}, limit: "8192000", high: "cgroup version 1 has none", usage: "77", kills: "does not exist",
		},
		{
			name: "a group outside the mount counts as its root",
			files: map[string]string{
				"proc/self/cgroup": "0::/../../other\n", "proc/self/mountinfo": v2Mount, "sys/fs/cgroup/memory.max": "512\n",
			},
			want: &Cgroup{Version: 2, Path: "/../../other"}, limit: "512", high: "no limit", usage: "does not exist", kills: "does not exist",
		},
		{
			name: "a space in the mount point",
			files: map[string]string{
				"proc/self/cgroup":       "0::/g\n",
				"proc/self/mountinfo":    `35 24 0:30 / /my\040groups rw - cgroup2 cgroup2 rw` + "\n",
				"my groups/g/memory.max": "5\n",
			},
			want: &Cgroup{Version: 2, Path: "/g"}, limit: "5", high: "no limit", usage: "does not exist", kills: "does not exist",
		},
		{
			name: "a limit that is no number is not taken for no limit",
			files: map[string]string{
				"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mount, "sys/fs/cgroup/memory.max": "plenty\n",
			},
			want: &Cgroup{Version: 2, Path: "/"}, limit: `its text "plenty\n" is not understood`, high: "no limit", usage: "does not exist", kills: "does not exist",
		},
		{name: "no control groups", files: map[string]string{"proc/self/mountinfo": v2Mount}},
		{name: "none mounted", files: map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": "25 30 0:23 / /proc rw - proc proc rw\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := Snapshot{Cgroup: &Cgroup{}}
			tree(tc.files).cgroup(&s)
			g := s.Cgroup
			if (g == nil) != (tc.want == nil) {
				t.Fatalf("got %+v", g)
			}
			if g == nil {
				return
			}
			if g.Version != tc.want.Version || g.Path != tc.want.Path {
				t.Errorf("version %d at %s", g.Version, g.Path)
			}
			for _, v := range [][3]string{
				{"limit", show(g.LimitBytes), tc.limit}, {"high", show(g.HighBytes), tc.high},
				{"usage", show(g.UsageBytes), tc.usage}, {"kills", show(g.OOMKills), tc.kills},
			} {
				if v[1] != v[2] {
					t.Errorf("%s: %s, want %s", v[0], v[1], v[2])
				}
			}
		})
	}
}

// denied is a file system in which one file cannot be read.
type denied struct {
	fs.FS
	name string
}

func (d denied) Open(name string) (fs.File, error) {
	if name == d.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.FS.Open(name)
}

// Files that were read are no reason why a training should not fit.
func TestCgroupUsage(t *testing.T) {
	v2 := map[string]string{"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": v2Mount,
		"sys/fs/cgroup/a/memory.max": "1000\n", "sys/fs/cgroup/a/memory.current": "900\n",
		"sys/fs/cgroup/a/b/memory.current": "10\n", "sys/fs/cgroup/a/b/memory.stat": "inactive_file 9\n"}
	v1 := map[string]string{"proc/self/cgroup": "4:memory:/\n", "proc/self/mountinfo": hybridMount,
		"sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "900\n"}
	for _, tc := range []struct {
		name         string
		files        map[string]string
		path, stat   string
		want, source string
	}{
		{"version 2", v2, "a/", "anon 100\nfile 700\ninactive_file 600\nactive_file 100\n", "300", "/sys/fs/cgroup/a/memory.current (without inactive_file of memory.stat)"},
		{"version 1 counts descendants", v1, "memory/", "inactive_file 5\ntotal_inactive_file 600\n", "300", "/sys/fs/cgroup/memory/memory.usage_in_bytes (without total_inactive_file of memory.stat)"},
		{"read at two moments", v2, "a/", "inactive_file 901\n", "0", "/sys/fs/cgroup/a/memory.current (without inactive_file of memory.stat)"},
		{"nothing told of cache", v2, "", "", "900", "/sys/fs/cgroup/a/memory.current (with file cache: memory.stat does not exist)"},
		{"no such line", v2, "a/", "anon 100\ninactive_file -4\n", "900", "/sys/fs/cgroup/a/memory.current (with file cache: memory.stat has no inactive_file)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := maps.Clone(tc.files)
			if tc.stat != "" {
				files["sys/fs/cgroup/"+tc.path+"memory.stat"] = tc.stat
			}
			s := Snapshot{}
			tree(files).cgroup(&s)
			if u := s.Cgroup.UsageBytes; show(u) != tc.want || u.Source() != tc.source {
				t.Errorf("%s from %q, want %s from %q", show(u), u.Source(), tc.want, tc.source)
			}
		})
	}
}

func TestCgroupDenied(t *testing.T) {
	p := tree(map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mount})
	p.root = denied{p.root, "sys/fs/cgroup/memory.max"}
	s := Snapshot{}
	p.cgroup(&s)
	if got := show(s.Cgroup.LimitBytes); got != "permission denied" {
		t.Errorf("limit %q", got)
	}
}

func TestNVIDIA(t *testing.T) {
	for _, tc := range []struct {
		name, text              string
		gpu, memory, used, busy string
	}{
		{"one GPU", "NVIDIA H100 80GB HBM3, 550.54.15, 81559, 1234, 37\n", "NVIDIA H100 80GB HBM3", "85520809984", "1293942784", "37"},
		{"the first of two", "NVIDIA A10G, 535.1, 23028, 0, 0\nNVIDIA T4, 535.1, 15360, 0, 5\n", "NVIDIA A10G", "24146608128", "0", "0"},
		{"unified memory", "NVIDIA GB10, 580.95, [N/A], [N/A], [N/A]\n", "NVIDIA GB10", "the driver does not say", "the driver does not say", "the driver does not say"},
		{"a complaint", "NVIDIA-SMI has failed because it couldn't communicate with the driver.\n", "nvidia-smi answered something else than was asked", "nvidia-smi answered something else than was asked", "nvidia-smi answered something else than was asked", "nvidia-smi answered something else than was asked"},
		{"impossible numbers", "X, 1, 99999999999999, -1, 101\n", "X", "the driver does not say", "the driver does not say", "the driver does not say"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var g GPU
			decodeNVIDIA(tc.text, &g)
			for _, v := range [][3]string{
				{"name", show(g.Name), tc.gpu}, {"memory", show(g.MemoryBytes), tc.memory},
				{"used", show(g.UsedBytes), tc.used}, {"busy", show(g.UtilizationPercent), tc.busy},
			} {
				if v[1] != v[2] {
					t.Errorf("%s: %s, want %s", v[0], v[1], v[2])
				}
			}
		})
	}
	var g GPU
	readNVIDIA(t.Context(), noPrograms, &g)
	if got := g.MemoryBytes.Reason(); !strings.Contains(got, "not found") {
		t.Errorf("without the tool: %q", got)
	}
}

func FuzzProcfs(f *testing.F) {
	f.Add("0::/a\n", v2Mount, "max\n", "MemTotal: 1 kB\nSwapTotal: 3 kB\n", "pswpin 1\n", "some avg10=1 \n")
	f.Add("4:memory:/a/../b\n", hybridMount, "9223372036854771712", "x", "hierarchical_memory_limit 4", "")
	f.Fuzz(func(t *testing.T, groups, mounts, limit, meminfo, vmstat, psi string) {
		p := tree(map[string]string{
			"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, "sys/fs/cgroup/memory.max": limit,
			"sys/fs/cgroup/memory.current": limit, "sys/fs/cgroup/memory.stat": vmstat,
			"proc/meminfo": meminfo, "proc/vmstat": vmstat, "proc/pressure/memory": psi, "proc/1/statm": limit,
			"proc/uptime": limit, "proc/loadavg": psi, "proc/cpuinfo": meminfo, "etc/os-release": groups,
		})
		s := Snapshot{}
		p.host(&s)
		p.memory(&s)
		p.pressure(&s)
		p.cgroup(&s)
		s.Processes = p.processes(3)
		decodeNVIDIA(psi, &s.GPU)
		checkSound(t, s)
	})
}
