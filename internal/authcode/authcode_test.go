package authcode_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/internal/authcode"
	"github.com/ipuka/ipuka/internal/errs"
)

const state, verifier = "the-state-of-this-very-flow", "0123456789012345678901234567890123456789012"

// silent is a provider whose token endpoint must not be asked.
type silent struct{ asked *int }

func (s silent) RoundTrip(*http.Request) (*http.Response, error) {
	*s.asked++
	return nil, errors.New("no network here")
}

func open(t testing.TB, asked *int) *authcode.Provider {
	t.Helper()
	p, err := authcode.New(authcode.Config{
		Provider: "The provider", ClientID: "id", ClientSecret: "the-client-secret", Issuers: []string{"https://as.example"},
		AuthorizeURL: "https://as.example/authorize", TokenURL: "https://as.example/token", HTTP: &http.Client{Transport: silent{asked}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// FuzzFinish: only an answer with the state, one code, no error and no wrong issuer
// reaches the token endpoint, and what is in the query is in no error.
func FuzzFinish(f *testing.F) {
	for _, query := range []string{
		"", "state=" + state, "state=" + state + "&code=c", "state=" + state + "&code=c&code=d", "state=x&code=c", "state=" + state + "&error=access_denied",
		"state=" + state + "&code=c&iss=https%3A%2F%2Fas.example", "state=" + state + "&code=c&iss=", "state=" + state + "&error=%3Cscript%3E&error_description=marker-4711",
		"state=" + state + "&state=" + state + "&code=c", "code=c&state", "state=" + state + "&code=c&error",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		asked := 0
		_, err = open(t, &asked).Finish(t.Context(), authcode.Flow{State: state, Verifier: verifier, Callback: "https://rp.example/callback"}, values)
		if err == nil {
			t.Fatal("no error")
		}
		good := len(values["state"]) == 1 && values.Get("state") == state && len(values["code"]) == 1 && values.Get("code") != "" &&
			len(values.Get("code")) <= 4096 && !values.Has("error") && (!values.Has("iss") || len(values["iss"]) == 1 && values.Get("iss") == "https://as.example")
		if good != (asked == 1) {
			t.Fatalf("the token endpoint was asked %d times for %q", asked, query)
		}
		var refused *authcode.Refused
		if good != errors.Is(err, errs.Unavailable) || !good && !errors.As(err, &refused) {
			t.Fatalf("error %v", err)
		}
		if strings.Contains(err.Error(), "marker-4711") || strings.Contains(err.Error(), "<") {
			t.Fatalf("the query's text is in the error %v", err)
		}
	})
}

func TestBaseURL(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"https://git.example.com", "https://git.example.com"},
		{"https://git.example.com/", "https://git.example.com"},
		{"https://git.example.com:8443/sub/path//", "https://git.example.com:8443/sub/path"},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8080"},
		{"http://[::1]:8080", "http://[::1]:8080"},
		{"http://localhost", "http://localhost"},
		{"http://localhost.example.com", ""}, {"http://10.0.0.1", ""}, {"http://127.0.0.1.example.com", ""},
		{"", ""}, {"git.example.com", ""}, {"//git.example.com", ""}, {"https://", ""}, {"https:git.example.com", ""},
		{"https://me@git.example.com", ""}, {"https://me:pass@git.example.com", ""}, {"https://git.example.com/?a=b", ""},
		{"https://git.example.com/?", ""}, {"https://git.example.com/#x", ""}, {"https://git.example.com/#", ""},
		{"javascript:alert(1)", ""}, {"file:///etc/passwd", ""}, {"https://git.example.com\n", ""},
	} {
		got, err := authcode.BaseURL(test.text)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%q: %q, %v; want %q", test.text, got, err, test.want)
		}
	}
}

func TestBegin(t *testing.T) {
	good := authcode.Flow{State: state, Verifier: verifier, Callback: "https://rp.example/callback"}
	for name, change := range map[string]func(*authcode.Flow){
		"no state":         func(f *authcode.Flow) { f.State = "" },
		"no callback":      func(f *authcode.Flow) { f.Callback = "" },
		"no verifier":      func(f *authcode.Flow) { f.Verifier = "" },
		"a short verifier": func(f *authcode.Flow) { f.Verifier = f.Verifier[:42] },
		"a long verifier":  func(f *authcode.Flow) { f.Verifier = strings.Repeat("a", 129) },
	} {
		f := good
		change(&f)
		if _, err := open(t, new(int)).Begin(f, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	to, err := open(t, new(int)).Begin(good, url.Values{"prompt": {"login"}})
	// The challenge was computed with another program: SHA-256 in base64url.
	const want = "https://as.example/authorize?client_id=id&code_challenge=_RpfHqw8pAZIomzVUE7sjRmHSM543WVdC4o-Kc4_3C0&code_challenge_method=S256" +
		"&prompt=login&redirect_uri=https%3A%2F%2Frp.example%2Fcallback&response_type=code&state=the-state-of-this-very-flow"
	if err != nil || to != want {
		t.Errorf("%s, %v; want %s", to, err, want)
	}
}

// TestToken: a token is stored, and never printed.
func TestToken(t *testing.T) {
	token := authcode.Token{Access: "canary-access", Refresh: "canary-refresh", Expires: time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)}
	again, err := authcode.ParseToken(token.Credential())
	if err != nil || again != token {
		t.Errorf("a token came back as another: %v", err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).InfoContext(context.Background(), "token", "token", token, "pointer", &token)
	for _, text := range []string{fmt.Sprint(token), fmt.Sprintf("%v %+v %#v %s %q %x", token, &token, token, token, token, token), log.String()} {
		if strings.Contains(text, "canary") || strings.Contains(text, fmt.Sprintf("%x", "canary")) {
			t.Errorf("printed: %s", text)
		}
	}
}
