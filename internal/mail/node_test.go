package mail_test

import (
	"encoding/json"
	"io"
	netmail "net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/mail"
)

// node runs a script of testdata with the npm packages of IPUKA_TEST_NODE_MODULES, or
// of .testdata/node_modules at the root, until the test ends. Without node or the
// package the test skips.
func node(t *testing.T, script, needs string, env ...string) *json.Decoder {
	t.Helper()
	modules := os.Getenv("IPUKA_TEST_NODE_MODULES")
	if modules == "" {
		modules = "../../.testdata/node_modules"
	}
	modules, err := filepath.Abs(modules)
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node to run a real peer with")
	}
	if _, err := os.Stat(filepath.Join(modules, needs)); err != nil {
		t.Skipf("no npm package %s to test with: see .ci/prerequisites", needs)
	}
	// Modules are looked for beside the script that imports them.
	folder := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(folder, "node_modules")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("testdata", script))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, script), text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, filepath.Join(folder, script))
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out)
		cmd.Wait()
	})
	return json.NewDecoder(out)
}

// The other side is the SMTP server of the npm package smtp-server.
func TestRealServer(t *testing.T) {
	s := &server{}
	var cert, key []byte
	s.cert, s.roots, cert, key = certificate(t)
	out := node(t, "mx.mjs", "smtp-server", "MX_CERT="+string(cert), "MX_KEY="+string(key), "MX_USER="+user, "MX_PASSWORD="+password)
	var up struct {
		Port int
	}
	if err := out.Decode(&up); err != nil {
		t.Fatal(err)
	}
	db := databasetest.SQLite(t, mail.Migrations)
	o := open(t, db, serve(t, nil), func(c *mail.SMTP) { c.Port, c.Roots = up.Port, s.roots })
	for _, name := range []string{"ann", "tempfail", "reject"} {
		o.send(name)
	}
	o.round()
	var got struct {
		Secure        bool
		User, To, Raw string
	}
	if err := out.Decode(&got); err != nil {
		t.Fatal(err)
	}
	message, err := netmail.ReadMessage(strings.NewReader(got.Raw))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Secure || got.User != user || got.To != "ann@people.test" || message.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("got %+v", got)
	}
	errors := map[string]bool{}
	for _, w := range o.undelivered() {
		errors[w.To+": "+w.Error] = w.Failed.IsZero()
	}
	if waits, ok := errors["tempfail@people.test: the mail server answered: 451 4.7.1 greylisted, try again"]; !ok || !waits {
		t.Errorf("got %v", errors)
	}
	if waits, ok := errors["reject@people.test: the mail server answered: 550 5.1.1 no such user"]; !ok || waits {
		t.Errorf("got %v", errors)
	}

	wrong := open(t, databasetest.SQLite(t, mail.Migrations), serve(t, nil), func(c *mail.SMTP) { c.Port, c.Roots, c.Password = up.Port, s.roots, "wrong-pw-77" })
	wrong.send("ann")
	wrong.round()
	if list := wrong.undelivered(); len(list) != 1 || !strings.Contains(list[0].Error, "535") || !list[0].Failed.IsZero() {
		t.Errorf("got %+v", list)
	}
}
