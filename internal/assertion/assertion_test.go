package assertion_test

import (
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipuka/ipuka/internal/assertion"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestVerify(t *testing.T) {
	public, private, _ := ed25519.GenerateKey(nil)
	_, foreign, _ := ed25519.GenerateKey(nil)
	alice := assertion.Caller{ID: "u1", Login: "alice", Name: "Alice", Token: "laptop", Granted: []string{"stack:write"}}
	tests := map[string]struct {
		key   ed25519.PrivateKey
		aud   string
		tweak func(r *http.Request)
		wait  time.Duration
		ok    bool
	}{
		"as signed":        {key: private, aud: "state", ok: true},
		"half a minute on": {key: private, aud: "state", wait: assertion.Lifetime, ok: true},
		"a minute on":      {key: private, aud: "state", wait: time.Minute},
		"other key":        {key: foreign, aud: "state"},
		"other audience":   {key: private, aud: "other"},
		"other path":       {key: private, aud: "state", tweak: func(r *http.Request) { r.URL.Path = "/api/stacks/acme/web/prod" }},
		"other method":     {key: private, aud: "state", tweak: func(r *http.Request) { r.Method = http.MethodDelete }},
		"none":             {key: private, aud: "state", tweak: func(r *http.Request) { r.Header.Del(assertion.Header) }},
		"two":              {key: private, aud: "state", tweak: func(r *http.Request) { r.Header.Add(assertion.Header, r.Header.Get(assertion.Header)) }},
		"tampered":         {key: private, aud: "state", tweak: func(r *http.Request) { r.Header.Set(assertion.Header, r.Header.Get(assertion.Header)[:80]) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := httptest.NewRequest(http.MethodGet, "/api/stacks/acme/web/dev", nil)
				if err := assertion.NewSigner(test.key, test.aud).Sign(r, alice, "req-1"); err != nil {
					t.Fatal(err)
				}
				if test.tweak != nil {
					test.tweak(r)
				}
				time.Sleep(test.wait)
				caller, request, err := assertion.NewVerifier(public, "state").Verify(r)
				if test.ok && (err != nil || !reflect.DeepEqual(caller, alice) || request != "req-1") {
					t.Errorf("Verify = %+v, %q, %v", caller, request, err)
				}
				if !test.ok && !errors.Is(err, errs.Unauthenticated) {
					t.Errorf("Verify = %v, want a refusal", err)
				}
			})
		})
	}
}
