package oidc_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/oidc"
	"github.com/ipuka/ipuka/identity/oidc/oidctest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
)

// clock is a time that tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) Advance(d time.Duration) { c.offset.Add(int64(d)) }

const discovery = "/.well-known/openid-configuration"

func instead(path string, handler http.HandlerFunc) func(*oidctest.Knobs) {
	return func(k *oidctest.Knobs) { k.Instead = map[string]http.HandlerFunc{path: handler} }
}

func down(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }

// Metadata that are somebody else's, or lead astray: OAU-08.
func TestMetadata(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(map[string]any)
		begin  string // what Begin refuses for; "" for Probe alone
		text   string
	}{
		{"other issuer", func(m map[string]any) { m["issuer"] = "https://other.test" }, "oidc_discovery", "calls its issuer https://other.test"},
		{"issuer with a slash", func(m map[string]any) { m["issuer"] = m["issuer"].(string) + "/" }, "oidc_discovery", "to the letter"},
		{"no issuer", func(m map[string]any) { delete(m, "issuer") }, "oidc_discovery", "to the letter"},
		{"http authorization", func(m map[string]any) { m["authorization_endpoint"] = "http://idp.acme.test/a" }, "oidc_discovery", "authorization_endpoint"},
		{"script authorization", func(m map[string]any) { m["authorization_endpoint"] = "javascript:alert(1)" }, "oidc_discovery", "authorization_endpoint"},
		{"no token endpoint", func(m map[string]any) { delete(m, "token_endpoint") }, "oidc_discovery", "token_endpoint"},
		{"http token endpoint", func(m map[string]any) { m["token_endpoint"] = "http://10.0.0.1/token" }, "oidc_discovery", "token_endpoint"},
		{"file keys", func(m map[string]any) { m["jwks_uri"] = "file:///etc/passwd" }, "oidc_discovery", "jwks_uri"},
		{"ftp userinfo", func(m map[string]any) { m["userinfo_endpoint"] = "ftp://idp.acme.test" }, "oidc_discovery", "userinfo_endpoint"},
		{"credentials", func(m map[string]any) { m["token_endpoint"] = "https://a:b@idp.acme.test" }, "oidc_discovery", "token_endpoint"},
		{"not JSON of that kind", func(m map[string]any) { m["issuer"] = 1 }, "oidc_discovery", "not JSON"},
		{"algorithms", func(m map[string]any) { m["id_token_signing_alg_values_supported"] = []string{"HS256"} }, "", "none of RS256"},
		{"PKCE", func(m map[string]any) { m["code_challenge_methods_supported"] = []string{"plain"} }, "", "PKCE"},
		{"flow", func(m map[string]any) { m["response_types_supported"] = []string{"id_token"} }, "", "authorization code flow"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := oidctest.Start(t)
			p.Set(func(k *oidctest.Knobs) { k.Discovery = test.change })
			c := connector(t, p, nil)
			_, err := c.Begin(context.Background(), newFlow())
			if test.begin != "" {
				refused(t, err, test.begin)
			} else if err != nil {
				t.Error(err)
			}
			if err := connector(t, p, nil).Probe(context.Background()); !errors.Is(err, errs.Unprocessable) || !strings.Contains(errs.Public(err), test.text) {
				t.Errorf("probe: %v", err)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	p := oidctest.Start(t)
	c := connector(t, p, nil)
	if err := c.Probe(context.Background()); err != nil {
		t.Fatal(err)
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	published, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private, KeyID: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		knobs func(*oidctest.Knobs)
		kind  errs.Kind
		text  string
	}{
		"down": {instead(discovery, down), errs.Unavailable, "metadata cannot be read: it answered with status 503"},
		"redirect": {instead(discovery, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		}), errs.Unavailable, "redirects are not followed"},
		"no keys":       {instead("/jwks", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"keys":[]}`) }), errs.Unprocessable, "publishes no key"},
		"secret keys":   {instead("/jwks", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"keys":[{"kty":"oct","k":"AAAA"}]}`) }), errs.Unprocessable, "publishes no key"},
		"private keys":  {instead("/jwks", func(w http.ResponseWriter, _ *http.Request) { w.Write(published) }), errs.Unprocessable, "publishes no key"},
		"keys in HTML":  {instead("/jwks", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `<html>`) }), errs.Unprocessable, "key set is not JSON"},
		"keys are away": {instead("/jwks", http.NotFound), errs.Unavailable, "key set cannot be read: it answered with status 404"},
	} {
		t.Run(name, func(t *testing.T) {
			p.Set(func(k *oidctest.Knobs) { *k = oidctest.Knobs{}; test.knobs(k) })
			err := connector(t, p, nil).Probe(context.Background())
			if !errors.Is(err, test.kind) || !strings.Contains(errs.Public(err), test.text) {
				t.Errorf("got %v", err)
			}
		})
	}
	gone := connector(t, p, func(c *oidc.Config) { c.Issuer = "http://127.0.0.1:1" })
	if err := gone.Probe(context.Background()); !errors.Is(err, errs.Unavailable) || !strings.Contains(errs.Public(err), "the connection failed") {
		t.Errorf("got %v", err)
	}
	guarded := connector(t, p, func(c *oidc.Config) { c.Client = nil })
	if err := guarded.Probe(context.Background()); !errors.Is(err, errs.Unavailable) || !strings.Contains(errs.Public(err), "private address") {
		t.Errorf("a private address was reached: %v", err)
	}
}

// The provider is not needed to start, is asked by one at a time, and is asked again
// soon after it has failed, but no sooner.
func TestCaching(t *testing.T) {
	p := oidctest.Start(t)
	now := &clock{}
	c := connector(t, p, func(c *oidc.Config) { c.Now = now.Now })
	if p.Calls(discovery) != 0 {
		t.Error("New asked the provider")
	}
	begin := func() error {
		_, err := c.Begin(context.Background(), newFlow())
		return err
	}
	p.Set(instead(discovery, down))
	for range 20 {
		if err := begin(); !errors.Is(err, errs.Unavailable) || strings.Contains(errs.Public(err), "503") {
			t.Fatalf("got %v", err)
		}
	}
	if n := p.Calls(discovery); n != 1 {
		t.Errorf("a provider that is down was asked %d times", n)
	}
	p.Set(func(k *oidctest.Knobs) { k.Instead = nil })
	now.Advance(10 * time.Second)
	if err := begin(); err != nil {
		t.Errorf("the failure is still believed: %v", err)
	}
	now.Advance(50 * time.Minute)
	if err := begin(); err != nil || p.Calls(discovery) != 2 {
		t.Errorf("asked %d times, %v", p.Calls(discovery), err)
	}
	p.Set(instead(discovery, down))
	now.Advance(10 * time.Minute)
	if err := begin(); err != nil || p.Calls(discovery) != 3 {
		t.Errorf("what was known is not used while the provider is down: %v, asked %d times", err, p.Calls(discovery))
	}
	now.Advance(24 * time.Hour)
	if err := begin(); !errors.Is(err, errs.Unavailable) {
		t.Errorf("what was known a day ago is used: %v", err)
	}
}

func TestOneFetchAtATime(t *testing.T) {
	p := oidctest.Start(t)
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	p.Set(func(k *oidctest.Knobs) {
		k.Instead = map[string]http.HandlerFunc{discovery: func(w http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			<-release
			p.Metadata(w, r)
		}}
	})
	c := connector(t, p, nil)
	// Whoever comes first goes away: that harms nobody else.
	first, cancel := context.WithCancel(context.Background())
	gone := make(chan error)
	go func() {
		_, err := c.Begin(first, newFlow())
		gone <- err
	}()
	<-arrived
	cancel()
	if err := <-gone; !errors.Is(err, errs.Unavailable) {
		t.Errorf("got %v", err)
	}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := c.Begin(context.Background(), newFlow()); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	group.Wait()
	if n := p.Calls(discovery); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

// Tokens with keys that nobody knows do not make the provider's key set a target: OAU-09.
func TestUnknownKeys(t *testing.T) {
	p := oidctest.Start(t)
	now := &clock{}
	c := connector(t, p, func(c *oidc.Config) { c.Now = now.Now })
	if _, err := arrive(t, c, p, "alice"); err != nil {
		t.Fatal(err)
	}
	now.Advance(10 * time.Second)
	p.Set(func(k *oidctest.Knobs) {
		k.Header = func(h map[string]any) { h["kid"] = fmt.Sprint("unknown-", time.Now().UnixNano()) }
	})
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			for range 10 {
				_, err := arrive(t, c, p, "alice")
				refused(t, err, "oidc_key")
			}
		})
	}
	group.Wait()
	if n := p.Calls("/jwks"); n != 2 {
		t.Errorf("100 unknown keys made for %d looks at the key set", n-1)
	}
	// New keys are found, old ones forgotten.
	p.Set(func(k *oidctest.Knobs) { k.Header = nil })
	p.Rotate()
	now.Advance(10 * time.Second)
	if _, err := arrive(t, c, p, "alice"); err != nil || p.Calls("/jwks") != 3 {
		t.Errorf("after a rotation: %v, %d looks", err, p.Calls("/jwks"))
	}
	// A provider that does not answer is not a token that is wrong.
	p.Set(instead("/jwks", down))
	p.Rotate()
	now.Advance(10 * time.Second)
	if _, err := arrive(t, c, p, "alice"); !errors.Is(err, errs.Unavailable) {
		t.Errorf("got %v", err)
	}
}

// Answers without end, that take forever or lead elsewhere: OAU-10.
func TestHostileAnswers(t *testing.T) {
	var reached atomic.Int64
	other := oidctest.Start(t)
	other.Set(func(k *oidctest.Knobs) {
		k.Instead = map[string]http.HandlerFunc{"/secret": func(http.ResponseWriter, *http.Request) { reached.Add(1) }}
	})
	huge := func(w http.ResponseWriter, _ *http.Request) {
		block := []byte(strings.Repeat(" ", 64<<10))
		for range (1 << 30) / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	drip := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	away := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.Issuer+"/secret", http.StatusTemporaryRedirect)
	}
	for path, paths := range map[string]string{"discovery": discovery, "keys": "/jwks", "token": "/token", "userinfo": "/userinfo"} {
		for name, handler := range map[string]http.HandlerFunc{"huge": huge, "drip": drip, "away": away} {
			t.Run(path+" "+name, func(t *testing.T) {
				t.Parallel()
				p := oidctest.Start(t)
				p.Set(func(k *oidctest.Knobs) {
					k.Lean = true
					k.Instead = map[string]http.HandlerFunc{paths: handler}
				})
				c := connector(t, p, func(c *oidc.Config) {
					c.Client = outbound.Client(outbound.Options{Private: true, Timeout: 500 * time.Millisecond})
				})
				began := time.Now()
				f := newFlow()
				to, err := c.Begin(context.Background(), f)
				if err == nil {
					_, err = c.Finish(context.Background(), f, identity.Response{Values: p.SignIn(t, to.URL, "alice", "alice-pw").Query()})
				}
				_, isRefusal := errors.AsType[*identity.Refusal](err)
				if !errors.Is(err, errs.Unavailable) && (path != "token" || !isRefusal) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		}
	}
	t.Cleanup(func() {
		if reached.Load() != 0 {
			t.Errorf("%d redirects were followed", reached.Load())
		}
	})
}

func TestTokenEndpoint(t *testing.T) {
	p := oidctest.Start(t)
	c := connector(t, p, nil)
	reply := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			io.WriteString(w, text)
		}
	}
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		reason string // "" for errs.Unavailable
		text   string
	}{
		{"down", reply(503, `{}`), "", ""},
		{"busy", reply(429, `{}`), "", ""},
		{"fault", reply(500, `{"error":"server_error"}`), "", ""},
		{"client", reply(401, `{"error":"invalid_client"}`), "oauth_client", "client ID and secret"},
		{"client without words", reply(401, ``), "oauth_client", "client ID and secret"},
		{"unauthorized", reply(400, `{"error":"unauthorized_client","error_description":"<b>no</b>"}`), "oauth_token", "answered unauthorized_client; it says: bno/b"},
		{"forbidden", reply(403, `<html>`), "oauth_token", "status 403"},
		{"HTML", reply(200, `<html>`), "oauth_token", "not one of OAuth 2.0"},
		{"error with status 200", reply(200, `{"error":"invalid_grant"}`), "oauth_code", "did not accept the code"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.Set(instead("/token", test.answer))
			_, err := arrive(t, c, p, "alice")
			if test.reason == "" {
				if !errors.Is(err, errs.Unavailable) {
					t.Errorf("got %v", err)
				}
				return
			}
			refused(t, err, test.reason)
			if !strings.Contains(detail(err), test.text) {
				t.Errorf("detail %s", detail(err))
			}
		})
	}
}
