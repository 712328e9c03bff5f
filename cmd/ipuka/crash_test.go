package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	crashServers  = 4
	crashRounds   = 5                // of each server
	crashWait     = 2 * time.Second  // at most, from an update's start until the kill
	crashLongest  = 60 * time.Second // that a client may take once its server was killed
	crashBudget   = 6 * time.Minute  // for everything
	crashStack    = "/api/stacks/acme/demo/dev"
	crashPassword = "correct horse battery staple"
)

// TestServerIsKilled kills servers at random moments under a running `pulumi up` and
// starts them again. The client goes on or fails, but comes to an end, and everything
// that was acknowledged to it is in the state afterwards.
func TestServerIsKilled(t *testing.T) {
	if !havePulumi() {
		t.Skip("pulumi and pulumi-language-yaml are not on PATH: nothing to kill the server under")
	}
	if testing.Short() {
		t.Skip("takes minutes")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(context.Background(), crashBudget)
	t.Cleanup(cancel)
	for number := range crashServers {
		t.Run(fmt.Sprint("server ", number), func(t *testing.T) {
			t.Parallel() // most of the time goes into the client's waiting
			random := rand.New(rand.NewPCG(seed, uint64(number)))
			c := newCrash(ctx, t)
			before, after := 0, 0
			for round := range crashRounds {
				// Now and then the server stays away for longer than the client waits.
				gone := number == 0 && round == 2
				reported := c.round(t, random, round, gone)
				before, after = before+reported, after+c.witness.acknowledged()-reported
			}
			t.Logf("%d of %d updates succeeded although their server was killed; %d journal entries were acknowledged before, %d after",
				c.succeeded, crashRounds, before, after)
			if before == 0 || after == 0 {
				t.Error("no update was under way: nothing was tried")
			}
			if output, err := c.pulumi("up", "--yes", "--skip-preview", "--non-interactive").CombinedOutput(); err != nil {
				t.Errorf("the last up: %v\n%s", err, output)
			}
			if output, err := c.pulumi("stack", "export").Output(); err != nil {
				t.Errorf("stack export: %v\n%s", err, output)
			}
		})
	}
}

// round is one update under which the server is killed. It returns how many journal
// entries had been acknowledged by then.
func (c *crash) round(t *testing.T, random *rand.Rand, round int, gone bool) int {
	t.Helper()
	// The program grows and shrinks, so that there is something to create and to
	// delete whatever the round before has left.
	count := 10 + random.IntN(20)
	if round%2 == 0 {
		count = 60 + random.IntN(20)
	}
	writeChain(t, c.program, count, round)
	c.witness.begin(c.export(t))
	reported, err := c.upAndKill(t, time.Duration(random.Int64N(int64(crashWait))), gone)
	if err == nil {
		c.succeeded++
	}
	if gone && err == nil {
		t.Errorf("round %d: the client says that it has succeeded without a server", round)
	}
	c.release(t)
	for _, problem := range c.witness.check(c.export(t)) {
		t.Errorf("round %d, %d resources, killed after %d journal entries: %s", round, count, reported, problem)
	}
	return reported
}

// crash is a server that gets killed, with a witness before it and a client.
type crash struct {
	ctx       context.Context
	data      string
	address   string
	token     string
	program   string
	client    []string // its environment
	witness   *witness
	server    *exec.Cmd
	succeeded int          // updates
	messages  bytes.Buffer // of the server, since its last start
}

func newCrash(ctx context.Context, t *testing.T) *crash {
	t.Helper()
	folder := t.TempDir()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	c := &crash{ctx: ctx, data: filepath.Join(folder, "data"), address: address, program: filepath.Join(folder, "demo")}
	password := filepath.Join(folder, "password")
	if err := errors.Join(os.WriteFile(password, []byte(crashPassword), 0o600), os.Mkdir(c.program, 0o700)); err != nil {
		t.Fatal(err)
	}
	output, err := exec.CommandContext(ctx, "ipuka", "bootstrap", "--data-dir", c.data, "--organization", "acme", "--login", "admin",
		"--email", "admin@example.com", "--password-file", password).Output()
	if err != nil {
		t.Fatal(err)
	}
	c.token = strings.TrimSpace(string(output))
	c.start(t)
	t.Cleanup(func() { c.kill() })
	c.witness = newWitness(t, address)
	c.client = append(os.Environ(), "HOME="+folder, "PULUMI_HOME="+filepath.Join(folder, ".pulumi"), "PULUMI_SKIP_UPDATE_CHECK=true",
		"PULUMI_ACCESS_TOKEN="+c.token, "PULUMI_BACKEND_URL="+c.witness.url, "NO_COLOR=1")
	writeChain(t, c.program, 1, 0)
	if output, err := c.pulumi("stack", "init", "acme/demo/dev", "--non-interactive").CombinedOutput(); err != nil {
		t.Fatalf("stack init: %v\n%s", err, output)
	}
	return c
}

func (c *crash) pulumi(arguments ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.ctx, "pulumi", arguments...)
	cmd.Dir, cmd.Env = c.program, c.client
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// start starts the server and waits until it is ready.
func (c *crash) start(t *testing.T) {
	t.Helper()
	c.messages.Reset()
	c.server = exec.CommandContext(c.ctx, "ipuka", "serve", "--data-dir", c.data, "--listen", c.address, "--console-listen=")
	c.server.Stderr = &c.messages
	if err := c.server.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		response, err := http.Get("http://" + c.address + "/readyz")
		if err != nil {
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return
		}
	}
	c.kill()
	t.Fatalf("the server does not come up again:\n%s", c.messages.String())
}

func (c *crash) kill() {
	_ = c.server.Process.Kill()
	_ = c.server.Wait()
}

// upAndKill runs an update, kills the server some time after the update has begun, and
// starts it again: at once, or when the client has given up. It returns when the client
// has ended: how many journal entries had been acknowledged when the server was killed,
// and what the client said.
func (c *crash) upAndKill(t *testing.T, delay time.Duration, gone bool) (int, error) {
	t.Helper()
	up := c.pulumi("up", "--yes", "--skip-preview", "--non-interactive")
	var output bytes.Buffer
	up.Stdout, up.Stderr = &output, &output
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	c.witness.waitForStart(time.Now().Add(30 * time.Second))
	time.Sleep(delay)
	c.kill()
	reported := c.witness.acknowledged()
	if !gone {
		c.start(t)
	}
	select {
	case err := <-ended:
		if gone {
			c.start(t)
		}
		if err != nil && !strings.Contains(output.String(), "error:") {
			t.Errorf("the client failed without saying why:\n%s", output.String())
		}
		return reported, err
	case <-time.After(crashLongest):
		_ = syscall.Kill(-up.Process.Pid, syscall.SIGKILL)
		<-ended
		t.Fatalf("the client hangs:\n%s", output.String())
		return 0, nil
	}
}

// release cancels the update that the client has left behind, if it has.
func (c *crash) release(t *testing.T) {
	t.Helper()
	var stack struct {
		Active    string `json:"activeUpdate"`
		Operation any    `json:"currentOperation"`
	}
	if err := json.Unmarshal(c.call(t, http.MethodGet, crashStack, http.StatusOK), &stack); err != nil {
		t.Fatal(err)
	}
	if stack.Operation != nil {
		c.call(t, http.MethodPost, crashStack+"/update/"+stack.Active+"/cancel", http.StatusNoContent)
	}
}

func (c *crash) export(t *testing.T) []byte {
	t.Helper()
	return c.call(t, http.MethodGet, crashStack+"/export", http.StatusOK)
}

// call talks to the server itself, past the witness.
func (c *crash) call(t *testing.T, method, path string, want int) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(c.ctx, method, "http://"+c.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "token "+c.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != want {
		t.Fatalf("%s %s: %d, %v, want %d\n%s", method, path, response.StatusCode, err, want, body)
	}
	return body
}

// writeChain writes a program of resources of which each depends on the one before.
// Every fourth has another value in every round, so that there are updates too.
func writeChain(t *testing.T, folder string, count, round int) {
	t.Helper()
	var program strings.Builder
	program.WriteString("name: demo\nruntime: yaml\nresources:\n")
	for i := range count {
		value := "same"
		if i%4 == 0 {
			value = fmt.Sprint("round", round)
		}
		fmt.Fprintf(&program, "  r%d:\n    type: pulumi:index:Stash\n    properties: {input: %s}\n", i, value)
		if i > 0 {
			fmt.Fprintf(&program, "    options: {dependsOn: [\"${r%d}\"]}\n", i-1)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "Pulumi.yaml"), []byte(program.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// urns returns the resources of an export that are there, in its order.
func urns(export []byte) ([]string, error) {
	var body struct {
		Deployment struct {
			Resources []resource `json:"resources"`
		} `json:"deployment"`
	}
	if err := json.Unmarshal(export, &body); err != nil {
		return nil, err
	}
	list := make([]string, len(body.Deployment.Resources))
	for i, r := range body.Deployment.Resources {
		list[i] = r.URN
	}
	if sorted := slices.Sorted(slices.Values(list)); len(slices.Compact(sorted)) != len(list) {
		return list, errors.New("the export has a resource twice")
	}
	return list, nil
}
