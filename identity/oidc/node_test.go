package oidc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/oidc"
	"github.com/ipuka/ipuka/identity/oidc/oidctest"
	"github.com/ipuka/ipuka/internal/outbound"
)

// node runs a script of testdata with the npm packages of IPUKA_TEST_NODE_MODULES, or
// of .testdata/node_modules at the root, until the test ends, and decodes the first
// line of its output into up. Without node or the package the test skips.
func node(t *testing.T, script, needs string, up any, env ...string) {
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
	complaints := &bytes.Buffer{}
	cmd.Stderr = complaints
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
	if err := json.NewDecoder(out).Decode(up); err != nil {
		t.Fatalf("%v: %s", err, complaints)
	}
}

var (
	formAction = regexp.MustCompile(`<form[^>]*action="([^"]*)"`)
	inputs     = regexp.MustCompile(`<input[^>]*>`)
	attribute  = regexp.MustCompile(`(name|value)="([^"]*)"`)
)

// walk goes where a browser goes from address, and sends every form that it is shown
// with the login filled in, until it is sent to the callback.
func walk(t *testing.T, address, login string) url.Values {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := browser.Get(address)
	for range 20 {
		if err != nil {
			t.Fatal(err)
		}
		page, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if to, elsewhere := r.Location(); elsewhere == nil {
			if strings.HasPrefix(to.String(), callback) {
				return to.Query()
			}
			r, err = browser.Get(to.String())
			continue
		}
		action := formAction.FindSubmatch(page)
		if action == nil {
			t.Fatalf("status %d without a form: %.300s", r.StatusCode, page)
		}
		form := url.Values{}
		for _, input := range inputs.FindAll(page, -1) {
			fields := map[string]string{}
			for _, a := range attribute.FindAllSubmatch(input, -1) {
				fields[string(a[1])] = html.UnescapeString(string(a[2]))
			}
			form.Set(fields["name"], fields["value"])
		}
		if form.Has("login") {
			form.Set("login", login)
			form.Set("password", "any")
		}
		to, _ := r.Request.URL.Parse(html.UnescapeString(string(action[1])))
		r, err = browser.PostForm(to.String(), form)
	}
	t.Fatal("the provider shows one page after the other")
	return nil
}

// The other side is oidc-provider, a certified implementation.
func TestRealProvider(t *testing.T) {
	for _, lean := range []string{"0", "1"} {
		t.Run("lean="+lean, func(t *testing.T) {
			var up struct{ Issuer string }
			node(t, "op.mjs", "oidc-provider", &up, "OP_SECRET="+oidctest.ClientSecret, "OP_CALLBACK="+callback, "OP_LEAN="+lean)
			ctx := context.Background()
			c, err := oidc.New(oidc.Config{
				Name: "corp", Issuer: up.Issuer, ClientID: "ipuka", ClientSecret: oidctest.ClientSecret,
				Scopes: []string{"openid", "profile", "email", "groups", "offline_access"}, Parameters: map[string]string{"prompt": "consent"},
				GroupsClaim: "groups", AllowedDomains: []string{"acme.test"}, Client: outbound.Client(outbound.Options{Private: true}),
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Probe(ctx); err != nil {
				t.Fatal(err)
			}
			begin := func(f identity.Flow) string {
				to, err := c.Begin(ctx, f)
				if err != nil {
					t.Fatal(err)
				}
				return to.URL
			}
			f := newFlow()
			values := walk(t, begin(f), "alice")
			if values.Get("iss") != up.Issuer {
				t.Errorf("callback %v", values)
			}
			x, err := c.Finish(ctx, f, identity.Response{Values: values})
			if err != nil {
				t.Fatal(err, detail(err))
			}
			if x.Subject != "alice" || x.Login != "alice" || x.Email != "alice@acme.test" || !x.EmailVerified || len(x.Groups) != 2 || x.Credential == nil {
				t.Errorf("got %+v", x)
			}
			_, err = c.Finish(ctx, f, identity.Response{Values: values})
			refused(t, err, "oauth_code")

			// The code was used twice, so the provider withdraws what it gave for it
			// (RFC 6749 §4.1.2): the refresh token as well.
			if _, err := c.Recheck(ctx, x.Subject, x.Credential); !errors.Is(err, identity.ErrWithdrawn) {
				t.Errorf("got %v", err)
			}
			f = newFlow()
			if x, err = c.Finish(ctx, f, identity.Response{Values: walk(t, begin(f), "alice")}); err != nil {
				t.Fatal(err)
			}
			again, err := c.Recheck(ctx, x.Subject, x.Credential)
			if err != nil || again.Subject != "alice" || len(again.Groups) != 2 || len(again.Credential) == 0 {
				t.Errorf("got %+v, %v %s", again, err, detail(err))
			}

			f = newFlow()
			values = walk(t, begin(f), "bob")
			_, err = c.Finish(ctx, f, identity.Response{Values: values})
			refused(t, err, "oidc_domain") // not verified
			f = newFlow()
			values = walk(t, begin(f), "alice")
			f.Verifier = newFlow().Verifier
			_, err = c.Finish(ctx, f, identity.Response{Values: values})
			refused(t, err, "oauth_code")
			f = newFlow()
			f.Fresh = true
			if _, err = c.Finish(ctx, f, identity.Response{Values: walk(t, begin(f), "alice")}); lean == "0" && err != nil {
				t.Errorf("a fresh sign-in: %v %s", err, detail(err))
			}
		})
	}
}
