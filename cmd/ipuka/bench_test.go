package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
)

// BenchmarkUp times the real `pulumi up` of a fresh stack with n resources, against
// this server and against the CLI's own file backend, in one run. Reported: seconds
// with each, and this server's share of the file backend's time. The CLI's own start
// and its YAML language are in both.
func BenchmarkUp(b *testing.B) {
	if !havePulumi() {
		b.Skip("pulumi and pulumi-language-yaml are not on PATH")
	}
	for _, n := range []int{200, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			url, token := benchServer(b)
			var ours, files time.Duration
			for b.Loop() {
				ours += timeUp(b, n, url, "acme/", "PULUMI_ACCESS_TOKEN="+token)
				files += timeUp(b, n, "file://"+b.TempDir(), "organization/", "PULUMI_CONFIG_PASSPHRASE=bench")
			}
			b.ReportMetric(ours.Seconds()/float64(b.N), "ours-s")
			b.ReportMetric(files.Seconds()/float64(b.N), "file-s")
			b.ReportMetric(ours.Seconds()/files.Seconds(), "of-file-backend")
		})
	}
}

// benchServer runs a fresh server in this process and returns its URL and a token.
func benchServer(b *testing.B) (url, token string) {
	b.Helper()
	c := defaults()
	c.dataDir = filepath.Join(b.TempDir(), "data")
	a, err := openApp(b.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	token, err = a.firstToken(b.Context(), identity.First{Organization: "acme", Login: "admin", Email: "admin@example.com"}, "correct horse battery staple")
	if err != nil {
		b.Fatal(err)
	}
	background, stop := context.WithCancel(context.Background())
	a.work(background)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: a.handler(c), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() {
		_ = server.Close()
		stop()
		_ = a.close()
	})
	return "http://" + listener.Addr().String(), token
}

func timeUp(b *testing.B, n int, backend, owner, secret string) time.Duration {
	b.Helper()
	folder := b.TempDir()
	var program strings.Builder
	program.WriteString("name: bench\nruntime: yaml\nresources:\n")
	for i := range n {
		fmt.Fprintf(&program, "  r%d:\n    type: pulumi:index:Stash\n    properties: {input: v%d}\n", i, i)
	}
	if err := os.WriteFile(filepath.Join(folder, "Pulumi.yaml"), []byte(program.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	run := func(arguments ...string) {
		cmd := exec.Command("pulumi", append(arguments, "--non-interactive")...)
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "PULUMI_HOME="+filepath.Join(folder, ".pulumi"), "PULUMI_BACKEND_URL="+backend, "PULUMI_SKIP_UPDATE_CHECK=true", secret)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("pulumi %s: %v\n%s", arguments[0], err, out)
		}
	}
	run("stack", "init", fmt.Sprintf("%sbench/s%d", owner, time.Now().UnixNano()))
	start := time.Now()
	run("up", "--yes", "--skip-preview", "--suppress-outputs", "--suppress-progress")
	return time.Since(start)
}
