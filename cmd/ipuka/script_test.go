package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ipuka": main, "ipuka-test-browser": browse})
}

// TestScript drives the product from outside. A script gets a free address in $ADDR
// and its URL in $API, and these commands:
//
//	ready            wait until the server at $ADDR is ready
//	prepare          bootstrap ./data and put the first access token in $TOKEN
//	newer            mark the database in ./data as one of a newer version
//	chain DIR N      write a program of N resources, each depending on the one before
//	begin NAME CMD…  start a command in the current folder
//	term NAME STATUS end it with SIGTERM; /readyz must answer STATUS at once, and the
//	                 exit status be 0
//	kill9 NAME TEXT  kill it with SIGKILL, once the stack $STACK has TEXT in its answer
//
// and the condition [pulumi]: the real CLI and its YAML language are on PATH.
func TestScript(t *testing.T) {
	if !havePulumi() {
		t.Log("pulumi and pulumi-language-yaml are not on PATH: the scripts that drive the real CLI are skipped")
	}
	testscript.Run(t, params(nil, "testdata/script"))
}

// TestScriptOnPostgreSQL drives the real CLI once more, with the other database.
func TestScriptOnPostgreSQL(t *testing.T) {
	if !havePulumi() {
		t.Skip("pulumi and pulumi-language-yaml are not on PATH")
	}
	for _, name := range []string{"lifecycle", "crash"} {
		t.Run(name, func(t *testing.T) {
			database := databasetest.PostgresURL(t)
			p := params(func(env *testscript.Env) { env.Setenv("IPUKA_DATABASE", database) }, "")
			p.Files = []string{"testdata/script/" + name + ".txtar"}
			testscript.Run(t, p)
		})
	}
}

func params(also func(*testscript.Env), dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(5 * time.Minute),
		Setup: func(env *testscript.Env) error {
			if also != nil {
				also(env)
			}
			return setUp(env)
		},
		Condition: func(name string) (bool, error) {
			if name == "pulumi" {
				return havePulumi(), nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": ready, "prepare": prepare, "newer": newer, "chain": chain, "begin": begin, "kill9": kill9, "term": term,
		},
	}
}

func havePulumi() bool {
	_, err := exec.LookPath("pulumi")
	_, langErr := exec.LookPath("pulumi-language-yaml")
	return err == nil && langErr == nil
}

func setUp(env *testscript.Env) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	env.Setenv("ADDR", address)
	env.Setenv("API", "http://"+address)
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("PULUMI_HOME", filepath.Join(env.WorkDir, ".pulumi"))
	env.Setenv("PULUMI_SKIP_UPDATE_CHECK", "true")
	env.Setenv("PULUMI_CONSOLE_DOMAIN", address)
	env.Setenv("NO_COLOR", "1")
	env.Values["begun"] = map[string]*exec.Cmd{}
	env.Defer(func() {
		for _, cmd := range env.Values["begun"].(map[string]*exec.Cmd) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func ready(ts *testscript.TestScript, _ bool, _ []string) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		response, err := http.Get(ts.Getenv("API") + "/readyz")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
	}
	ts.Fatalf("the server is not ready after 20 seconds")
}

func prepare(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(os.WriteFile(ts.MkAbs("password"), []byte("correct horse battery staple\n"), 0o600))
	ts.Check(ts.Exec("ipuka", "bootstrap", "--data-dir", "data", "--organization", "acme", "--login", "admin",
		"--email", "admin@example.com", "--password-file", "password"))
	ts.Setenv("TOKEN", strings.TrimSpace(ts.ReadFile("stdout")))
}

func newer(ts *testscript.TestScript, _ bool, _ []string) {
	db, err := database.Open(context.Background(), "sqlite:"+ts.MkAbs("data/ipuka.db"))
	ts.Check(err)
	ts.Check(db.Conn(context.Background()).Exec("INSERT INTO schema_versions (component, version) VALUES ('audit', 9999)").Error)
	ts.Check(db.Close())
}

func chain(ts *testscript.TestScript, _ bool, args []string) {
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	var program strings.Builder
	program.WriteString("name: demo\nruntime: yaml\nresources:\n")
	for i := range count {
		fmt.Fprintf(&program, "  r%d:\n    type: pulumi:index:Stash\n    properties: {input: v%d}\n", i, i)
		if i > 0 {
			fmt.Fprintf(&program, "    options: {dependsOn: [\"${r%d}\"]}\n", i-1)
		}
	}
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o700))
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[0]), "Pulumi.yaml"), []byte(program.String()), 0o600))
}

func begin(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: begin NAME CMD…")
	}
	path, err := lookPath(ts, args[1])
	ts.Check(err)
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "PULUMI_HOME", "PULUMI_SKIP_UPDATE_CHECK", "PULUMI_ACCESS_TOKEN", "PULUMI_CONSOLE_DOMAIN", "IPUKA_DATABASE"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ts.Check(cmd.Start())
	ts.Value("begun").(map[string]*exec.Cmd)[args[0]] = cmd
}

// lookPath finds a program on the script's own PATH, which has ipuka.
func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, folder := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(folder, name); isFile(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on PATH", name)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func kill9(ts *testscript.TestScript, _ bool, args []string) {
	begun := ts.Value("begun").(map[string]*exec.Cmd)
	cmd := begun[args[0]]
	if cmd == nil {
		ts.Fatalf("nothing called %s was begun", args[0])
	}
	if len(args) > 1 {
		waitFor(ts, args[1])
	}
	ts.Check(syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	_ = cmd.Wait()
	delete(begun, args[0])
}

func term(ts *testscript.TestScript, _ bool, args []string) {
	begun := ts.Value("begun").(map[string]*exec.Cmd)
	cmd := begun[args[0]]
	ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	status := 0
	for deadline := time.Now().Add(5 * time.Second); strconv.Itoa(status) != args[1]; time.Sleep(5 * time.Millisecond) {
		response, err := http.Get(ts.Getenv("API") + "/readyz")
		ts.Check(err)
		status = response.StatusCode
		_ = response.Body.Close()
		if time.Now().After(deadline) {
			ts.Fatalf("/readyz goes on answering %d", status)
		}
	}
	ts.Check(cmd.Wait())
	delete(begun, args[0])
}

// waitFor polls the running operation of the stack $STACK until the state service
// has had text, an operation's author or kind, in its answer.
func waitFor(ts *testscript.TestScript, text string) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(string(get(ts, "/api/stacks/"+ts.Getenv("STACK"))), text) {
			return
		}
	}
	ts.Fatalf("%q did not appear in the stack within 30 seconds", text)
}
