package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/oidc"
	"github.com/ipuka/ipuka/identity/oidc/oidctest"
	"github.com/ipuka/ipuka/internal/outbound"
)

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// rewrite returns a change of a signed token that leaves its signature.
func rewrite(part int, change func(map[string]any)) func(string) string {
	return func(raw string) string {
		parts := strings.Split(raw, ".")
		text, _ := base64.RawURLEncoding.DecodeString(parts[part])
		var v map[string]any
		_ = json.Unmarshal(text, &v)
		change(v)
		parts[part] = encode(v)
		return strings.Join(parts, ".")
	}
}

// Signatures that prove nothing: OAU-04.
func TestSignature(t *testing.T) {
	p := oidctest.Start(t)
	var lured atomic.Int64
	attacker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { lured.Add(1) }))
	defer attacker.Close()
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ownEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := p.PublicKey("RS256")
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: public, KeyID: "RS256-1", Algorithm: "RS256"})
	if err != nil {
		t.Fatal(err)
	}
	// with signs with somebody's key, and says what header says.
	with := func(key any, algorithm string, header map[jose.HeaderKey]any) func(map[string]any, map[string]any) string {
		return func(_, claims map[string]any) string {
			return oidctest.Sign(key, algorithm, &jose.SignerOptions{ExtraHeaders: header}, claims)
		}
	}
	none := func(algorithm, signature string) func(map[string]any, map[string]any) string {
		return func(_, claims map[string]any) string {
			return encode(map[string]any{"alg": algorithm, "typ": "JWT"}) + "." + encode(claims) + "." + signature
		}
	}
	kid := map[jose.HeaderKey]any{"kid": "RS256-1"}
	for _, test := range []struct {
		name   string
		knobs  oidctest.Knobs
		reason string
	}{
		{"none", oidctest.Knobs{Sign: none("none", "")}, "oidc_algorithm"},
		{"None", oidctest.Knobs{Sign: none("None", "")}, "oidc_algorithm"},
		{"nOnE with a signature", oidctest.Knobs{Sign: none("nOnE", "AAAA")}, "oidc_algorithm"},
		{"no algorithm", oidctest.Knobs{Sign: none("", "AAAA")}, "oidc_algorithm"},
		{"rs256", oidctest.Knobs{Token: rewrite(0, func(h map[string]any) { h["alg"] = "rs256" })}, "oidc_algorithm"},
		{"RS256 without a signature", oidctest.Knobs{Sign: none("RS256", "")}, "oidc_key"},
		{"HS256 with the public key", oidctest.Knobs{Sign: with(der, "HS256", kid)}, "oidc_algorithm"},
		{"HS256 with the key set", oidctest.Knobs{Sign: with(jwk, "HS256", kid)}, "oidc_algorithm"},
		{"HS256 with the client ID", oidctest.Knobs{Sign: with([]byte(strings.Repeat(oidctest.ClientID, 10)), "HS256", nil)}, "oidc_algorithm"},
		{"HS256 with the client secret", oidctest.Knobs{Sign: with([]byte(strings.Repeat(oidctest.ClientSecret, 2)), "HS256", nil)}, "oidc_algorithm"},
		{"RS384", oidctest.Knobs{Sign: with(own, "RS384", kid)}, "oidc_algorithm"},
		{"key of another, known ID", oidctest.Knobs{Sign: with(own, "RS256", kid)}, "oidc_signature"},
		{"key of another, unknown ID", oidctest.Knobs{Sign: with(own, "RS256", map[jose.HeaderKey]any{"kid": "mine"})}, "oidc_key"},
		{"key of another, no ID", oidctest.Knobs{Sign: with(own, "RS256", nil)}, "oidc_key"},
		{"other kind of key, known ID", oidctest.Knobs{Sign: with(ownEC, "ES256", kid)}, "oidc_key"},
		{"the key's algorithm is another", oidctest.Knobs{Header: func(h map[string]any) { h["kid"] = "PS256-1" }}, "oidc_key"},
		{"jwk", oidctest.Knobs{Sign: with(own, "RS256", map[jose.HeaderKey]any{"jwk": jose.JSONWebKey{Key: own.Public()}})}, "oidc_key"},
		{"jku", oidctest.Knobs{Sign: with(own, "RS256", map[jose.HeaderKey]any{"jku": attacker.URL, "kid": "mine"})}, "oidc_key"},
		{"x5u", oidctest.Knobs{Sign: with(own, "RS256", map[jose.HeaderKey]any{"x5u": attacker.URL, "kid": "RS256-1"})}, "oidc_signature"},
		{"kid is a URL", oidctest.Knobs{Sign: with(own, "RS256", map[jose.HeaderKey]any{"kid": attacker.URL})}, "oidc_key"},
		{"crit", oidctest.Knobs{Sign: func(_, claims map[string]any) string {
			return encode(map[string]any{"alg": "RS256", "crit": []string{"x"}, "x": 1}) + "." + encode(claims) + ".AAAA"
		}}, "oidc_malformed"},
		{"changed claims", oidctest.Knobs{Token: rewrite(1, func(c map[string]any) { c["sub"] = "admin" })}, "oidc_signature"},
		{"changed header", oidctest.Knobs{Token: rewrite(0, func(h map[string]any) { h["x"] = "y" })}, "oidc_signature"},
		{"access token", oidctest.Knobs{Header: func(h map[string]any) { h["typ"] = "at+jwt" }}, "oidc_type"},
		{"logout token", oidctest.Knobs{Header: func(h map[string]any) { h["typ"] = "logout+jwt" }}, "oidc_type"},
		{"not a JWT", oidctest.Knobs{Token: func(string) string { return "a.b" }}, "oidc_malformed"},
		{"JSON serialization", oidctest.Knobs{Token: func(raw string) string {
			parts := strings.Split(raw, ".")
			text, _ := json.Marshal(map[string]string{"protected": parts[0], "payload": parts[1], "signature": parts[2]})
			return string(text)
		}}, "oidc_malformed"},
		{"padding", oidctest.Knobs{Token: func(raw string) string { return raw + "=" }}, "oidc_malformed"},
		{"huge", oidctest.Knobs{Claims: func(c map[string]any) { c["x"] = strings.Repeat("a", 300<<10) }}, "oidc_malformed"},
		{"no ID token", oidctest.Knobs{Response: func(r map[string]any) { delete(r, "id_token") }}, "oidc_no_id_token"},
		{"empty ID token", oidctest.Knobs{Response: func(r map[string]any) { r["id_token"] = "" }}, "oidc_no_id_token"},
		{"ID token of another type", oidctest.Knobs{Response: func(r map[string]any) { r["id_token"] = []string{"x"} }}, "oidc_no_id_token"},
		{"no access token", oidctest.Knobs{Response: func(r map[string]any) { delete(r, "access_token") }}, "oauth_token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.Set(func(k *oidctest.Knobs) { *k = test.knobs })
			_, err := arrive(t, connector(t, p, nil), p, "alice")
			refused(t, err, test.reason)
		})
	}
	if lured.Load() != 0 {
		t.Errorf("the attacker's server was asked %d times", lured.Load())
	}
	for name, knobs := range map[string]oidctest.Knobs{
		"no type": {Header: func(h map[string]any) { h["typ"] = nil }},
		"no kid":  {Header: func(h map[string]any) { h["kid"] = nil }},
		"x5t":     {Header: func(h map[string]any) { h["x5t"] = "abc" }},
	} {
		p.Set(func(k *oidctest.Knobs) { *k = knobs })
		if _, err := arrive(t, connector(t, p, nil), p, "alice"); err != nil {
			t.Errorf("%s: %v %s", name, err, detail(err))
		}
	}
}

// Claims of tokens with good signatures: OAU-05, OAU-06, OAU-07, and who they are about.
func TestClaims(t *testing.T) {
	p := oidctest.Start(t)
	now := time.Now()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	set := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) {
			if c[name] = value; value == nil {
				delete(c, name)
			}
		}
	}
	for _, test := range []struct {
		name   string
		claims func(map[string]any)
		reason string // "" lets them in
		text   string
	}{
		{"other client", set("aud", "someone-else"), "oidc_audience", "for the client someone-else, not ipuka"},
		{"no audience", set("aud", nil), "oidc_audience", ""},
		{"empty audience", set("aud", []string{}), "oidc_audience", ""},
		{"audience in upper case", set("aud", "IPUKA"), "oidc_audience", ""},
		{"audience of another type", set("aud", map[string]any{"ipuka": 1}), "oidc_audience", ""},
		{"two without azp", set("aud", []string{"ipuka", "them"}), "oidc_authorized_party", ""},
		{"two with azp", func(c map[string]any) { c["aud"], c["azp"] = []string{"ipuka", "them"}, "ipuka" }, "", ""},
		{"two with their azp", func(c map[string]any) { c["aud"], c["azp"] = []string{"ipuka", "them"}, "them" }, "oidc_authorized_party", "issued to the client them"},
		{"list of us", set("aud", []string{"ipuka"}), "", ""},
		{"other azp", set("azp", "them"), "oidc_authorized_party", ""},
		{"azp of another type", set("azp", []string{"ipuka"}), "oidc_authorized_party", ""},
		{"azp", set("azp", "ipuka"), "", ""},
		{"no nonce", set("nonce", nil), "oidc_nonce", ""},
		{"other nonce", set("nonce", random()), "oidc_nonce", ""},
		{"empty nonce", set("nonce", ""), "oidc_nonce", ""},
		{"nonce under another name", func(c map[string]any) { c["Nonce"] = c["nonce"]; delete(c, "nonce") }, "oidc_nonce", ""},
		{"no exp", set("exp", nil), "oidc_expired", "no time of expiry"},
		{"expired", func(c map[string]any) { c["exp"], c["iat"] = in(-time.Minute), in(-2*time.Minute) }, "oidc_expired", "expired 1m"},
		{"exp as text", set("exp", "tomorrow"), "oidc_malformed", ""},
		{"nbf in 6 minutes", set("nbf", in(6*time.Minute)), "oidc_not_yet", ""},
		{"no iat", set("iat", nil), "oidc_issued_at", "does not say"},
		{"iat in 10 hours", func(c map[string]any) { c["iat"], c["exp"] = in(10*time.Hour), in(11*time.Hour) }, "oidc_issued_at", "the clock differs by "},
		{"iat in 30 seconds", set("iat", in(30*time.Second)), "", ""},
		{"iat long ago", set("iat", in(-12*time.Minute)), "oidc_issued_at", "issued 12m"},
		{"iat 9 minutes ago", set("iat", in(-9*time.Minute)), "", ""},
		{"other issuer", set("iss", "https://other.test"), "oidc_issuer", "of the issuer https://other.test"},
		{"issuer with a slash", set("iss", p.Issuer+"/"), "oidc_issuer", ""},
		{"no issuer", set("iss", nil), "oidc_issuer", ""},
		{"at_hash of another", set("at_hash", oidctest.Hash("RS256", "other")), "oidc_access_token_hash", ""},
		{"empty at_hash", set("at_hash", ""), "oidc_access_token_hash", ""},
		{"no at_hash", set("at_hash", nil), "", ""},
		{"no sub", set("sub", nil), "oidc_subject", ""},
		{"empty sub", set("sub", ""), "oidc_subject", ""},
		{"sub is a number", set("sub", 1), "oidc_malformed", ""},
		{"long sub", set("sub", strings.Repeat("1", 256)), "oidc_subject", ""},
		{"text for administrators", set("aud", "<script>\x1b[31m"), "oidc_audience", "script(31m"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.Set(func(k *oidctest.Knobs) { *k = oidctest.Knobs{Claims: test.claims} })
			_, err := arrive(t, connector(t, p, nil), p, "alice")
			if test.reason == "" {
				if err != nil {
					t.Errorf("refused: %v %s", err, detail(err))
				}
				return
			}
			refused(t, err, test.reason)
			if !strings.Contains(strings.ReplaceAll(detail(err), "script31m", "script(31m"), test.text) {
				t.Errorf("detail %q, want %q in it", detail(err), test.text)
			}
		})
	}
}

// A claim that is there twice can be read in two ways.
func TestDuplicateClaim(t *testing.T) {
	p := oidctest.Start(t)
	p.Set(func(k *oidctest.Knobs) {
		k.Response = func(r map[string]any) {
			raw := r["id_token"].(string)
			parts := strings.Split(raw, ".")
			text, _ := base64.RawURLEncoding.DecodeString(parts[1])
			r["id_token"] = p.Resign([]byte(strings.Replace(string(text), `"sub":`, `"sub":"admin","sub":`, 1)))
		}
	})
	_, err := arrive(t, connector(t, p, nil), p, "alice")
	refused(t, err, "oidc_malformed")
}

// Data of another person in place of one's own, and addresses that nobody vouches for.
func TestUserinfo(t *testing.T) {
	p := oidctest.Start(t)
	for _, test := range []struct {
		name     string
		claims   func(map[string]any)
		userinfo func(map[string]any)
		instead  http.HandlerFunc
		reason   string
		email    string
		verified bool
	}{
		{name: "other subject", userinfo: func(c map[string]any) { c["sub"] = "admin" }, reason: "oidc_userinfo"},
		{name: "no subject", userinfo: func(c map[string]any) { delete(c, "sub") }, reason: "oidc_userinfo"},
		{name: "signed", instead: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a.b.c") }, reason: "oidc_userinfo"},
		{name: "list", instead: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") }, reason: "oidc_userinfo"},
		{name: "null", instead: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "null") }, reason: "oidc_userinfo"},
		{name: "all of it", email: "alice@acme.test", verified: true},
		{
			name: "vouches for another address", claims: func(c map[string]any) { c["email"] = "ceo@acme.test" },
			email: "ceo@acme.test",
		},
		{
			name: "vouches for the same address", claims: func(c map[string]any) { c["email"] = "alice@acme.test" },
			email: "alice@acme.test", verified: true,
		},
		{
			name: "the token vouches for what it does not have", claims: func(c map[string]any) { c["email_verified"] = true },
			userinfo: func(c map[string]any) { c["email_verified"] = false }, email: "alice@acme.test",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.Set(func(k *oidctest.Knobs) {
				*k = oidctest.Knobs{Lean: true, Claims: test.claims, Userinfo: test.userinfo}
				if test.instead != nil {
					k.Instead = map[string]http.HandlerFunc{"/userinfo": test.instead}
				}
			})
			x, err := arrive(t, connector(t, p, nil), p, "alice")
			if test.reason != "" {
				refused(t, err, test.reason)
				return
			}
			if err != nil || x.Email != test.email || x.EmailVerified != test.verified {
				t.Errorf("got %s, %v; %v", x.Email, x.EmailVerified, err)
			}
		})
	}
}

// The token is for a client of the same provider that somebody else runs: it must not
// be accepted just because it has a good signature (OAU-05, seen from the flow).
func TestForeignFlow(t *testing.T) {
	p := oidctest.Start(t)
	c := connector(t, p, nil)
	victim, attacker := newFlow(), newFlow()
	stolen := signIn(t, c, p, attacker, "bob")
	own := signIn(t, c, p, victim, "alice")
	own.Set("code", stolen.Get("code"))
	_, err := c.Finish(context.Background(), victim, identity.Response{Values: own})
	refused(t, err, "oauth_code") // PKCE: the code is bound to the other flow's verifier
	if errors.Is(err, identity.ErrWithdrawn) {
		t.Error("a refusal of a sign-in withdraws nothing")
	}
}

// No text that nobody has signed is a token, and none makes for a panic.
func FuzzVerify(f *testing.F) {
	p := oidctest.Start(f)
	c, err := oidc.New(oidc.Config{
		Name: "corp", Issuer: p.Issuer, ClientID: oidctest.ClientID, Client: outbound.Client(outbound.Options{Private: true}),
	})
	if err != nil {
		f.Fatal(err)
	}
	good := oidctest.Sign(p.PrivateKey("ES256"), "ES256", &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{"kid": "ES256-1"}},
		map[string]any{"iss": p.Issuer, "sub": "1", "aud": oidctest.ClientID, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	claims, err := c.Verify(context.Background(), good, "x")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add("..")
	f.Add(encode(map[string]any{"alg": "none"}) + "." + encode(map[string]any{"sub": "1"}) + ".")
	f.Fuzz(func(t *testing.T, raw string) {
		// Base64 has several spellings of one text, so raw may differ from good.
		if got, err := c.Verify(context.Background(), raw, "x"); err == nil && !reflect.DeepEqual(got, claims) {
			t.Errorf("accepted %q", raw)
		}
	})
}

// What is shown of others is plain, whatever they say.
func FuzzShown(f *testing.F) {
	f.Add("<script>\x1b[31m\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		if s := oidc.Shown(text); strings.ContainsAny(s, "<>&\"\\\n\r\x00\x1b") || len(s) > 200 {
			t.Errorf("shown %q", s)
		}
		if d := oidc.DomainOf(text); d != "" && (strings.Count(text, "@") != 1 || !strings.HasSuffix(strings.ToLower(text), "@"+d)) {
			t.Errorf("%q is of %q", text, d)
		}
	})
}
