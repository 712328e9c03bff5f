// Package oidctest is an OpenID provider for tests, in the test's own process: with a
// login page for browsers, PKCE, refresh tokens, and knobs for everything that a
// provider can do wrong.
package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The client that every Provider knows.
const (
	ClientID     = "ipuka"
	ClientSecret = "client-secret-of-the-tests"
)

// User is somebody with an account at the provider.
type User struct {
	Password string
	Claims   map[string]any // sub included
}

// Knobs make the provider misbehave. The zero value does not. The functions must not
// call the provider.
type Knobs struct {
	Algorithm string                                     // of ID tokens, RS256 unless set: PS256, ES256, EdDSA
	Lean      bool                                       // the ID token has no claims but sub, the rest is at the userinfo endpoint
	Header    func(header map[string]any)                // changes the header of ID tokens, which is signed then
	Claims    func(claims map[string]any)                // changes their claims
	Token     func(raw string) string                    // changes a signed ID token
	Sign      func(header, claims map[string]any) string // makes ID tokens instead
	Discovery func(metadata map[string]any)              // changes the metadata
	Response  func(response map[string]any)              // changes the token response
	Userinfo  func(claims map[string]any)                // changes the answer of the userinfo endpoint
	Callback  func(values url.Values)                    // changes what the browser takes back
	Instead   map[string]http.HandlerFunc                // by path: answers instead of the provider
}

// Provider is a running provider. It is safe for concurrent use.
type Provider struct {
	Issuer string

	server *httptest.Server
	mu     sync.Mutex // guards all below
	knobs  Knobs
	users  map[string]User
	codes  map[string]grant
	tokens map[string]grant // access tokens
	fresh  map[string]grant // refresh tokens
	calls  map[string]int
	keyID  int
	keys   map[string]crypto.Signer
}

// grant is what a person has allowed.
type grant struct {
	login, redirect, nonce, challenge string
	scopes                            []string
	at                                time.Time
}

// Start runs a provider at http://127.0.0.1 until the test ends. It knows alice
// (password alice-pw, groups platform and admins) and bob (password bob-pw, an address
// that is not verified).
func Start(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{
		codes: map[string]grant{}, tokens: map[string]grant{}, fresh: map[string]grant{}, calls: map[string]int{},
		users: map[string]User{
			"alice": {"alice-pw", map[string]any{
				"sub": "248289761001", "preferred_username": "alice", "name": "Alice Adams", "email": "alice@acme.test", "email_verified": true,
				"picture": "https://acme.test/alice.png", "groups": []any{"platform", "admins"},
			}},
			"bob": {"bob-pw", map[string]any{
				"sub": "248289761002", "preferred_username": "bob", "name": "Bob Brown", "email": "bob@acme.test", "email_verified": false, "groups": []any{},
			}},
		},
	}
	p.Rotate()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.Metadata)
	mux.HandleFunc("GET /jwks", p.jwks)
	mux.HandleFunc("/authorize", p.authorize)
	mux.HandleFunc("POST /token", p.Token)
	mux.HandleFunc("GET /userinfo", p.userinfo)
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.calls[r.URL.Path]++
		instead := p.knobs.Instead[r.URL.Path]
		p.mu.Unlock()
		if instead != nil {
			instead(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	p.Issuer = p.server.URL
	t.Cleanup(p.server.Close)
	return p
}

// Set changes the knobs, for requests from now on.
func (p *Provider) Set(change func(*Knobs)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.knobs)
}

// Calls returns how often a path was asked for.
func (p *Provider) Calls(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[path]
}

// SetUser adds or replaces somebody.
func (p *Provider) SetUser(login string, u User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users[login] = u
}

// SetClaim changes one claim of somebody; nil takes it away.
func (p *Provider) SetClaim(login, name string, value any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	claims := maps.Clone(p.users[login].Claims)
	if claims[name] = value; value == nil {
		delete(claims, name)
	}
	p.users[login] = User{p.users[login].Password, claims}
}

// Withdraw makes the refresh tokens of somebody worthless.
func (p *Provider) Withdraw(login string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.fresh, func(_ string, g grant) bool { return g.login == login })
}

// Rotate makes the provider forget its keys and sign with new ones.
func (p *Provider) Rotate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keyID++
	first := nextRSA()
	second, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	_, third, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	p.keys = map[string]crypto.Signer{"RS256": first, "PS256": first, "ES256": second, "EdDSA": third}
}

// RSA keys take long to make, so a few go round.
var (
	pool  [4]func() *rsa.PrivateKey
	taken atomic.Int64
)

func init() {
	for i := range pool {
		pool[i] = sync.OnceValue(func() *rsa.PrivateKey {
			k, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				panic(err)
			}
			return k
		})
	}
}

func nextRSA() *rsa.PrivateKey { return pool[taken.Add(1)%int64(len(pool))]() }

// PublicKey returns the key that ID tokens of an algorithm are verified with.
func (p *Provider) PublicKey(algorithm string) crypto.PublicKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[algorithm].Public()
}

// PrivateKey returns the key that ID tokens of an algorithm are signed with.
func (p *Provider) PrivateKey(algorithm string) crypto.Signer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[algorithm]
}

func (p *Provider) kid(algorithm string) string { return fmt.Sprintf("%s-%d", algorithm, p.keyID) }

// Resign signs any payload with the RS256 key; only functions of Knobs may call it.
func (p *Provider) Resign(payload []byte) string {
	return signText(p.keys["RS256"], "RS256", &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{"kid": p.kid("RS256")}}, payload)
}

func (p *Provider) sign(algorithm string, header, claims map[string]any) string {
	options := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{"kid": p.kid(algorithm), "typ": "JWT"}}
	for name, value := range header {
		options.ExtraHeaders[jose.HeaderKey(name)] = value
		if value == nil {
			delete(options.ExtraHeaders, jose.HeaderKey(name))
		}
	}
	return Sign(p.keys[algorithm], algorithm, options, claims)
}

// Sign signs claims with any key.
func Sign(key any, algorithm string, options *jose.SignerOptions, claims map[string]any) string {
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return signText(key, algorithm, options, text)
}

func signText(key any, algorithm string, options *jose.SignerOptions, text []byte) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(algorithm), Key: key}, options)
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		panic(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return raw
}

// Metadata answers with what the provider publishes about itself.
func (p *Provider) Metadata(w http.ResponseWriter, _ *http.Request) {
	m := map[string]any{
		"issuer": p.Issuer, "authorization_endpoint": p.Issuer + "/authorize", "token_endpoint": p.Issuer + "/token",
		"jwks_uri": p.Issuer + "/jwks", "userinfo_endpoint": p.Issuer + "/userinfo",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256", "PS256", "ES256", "EdDSA"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
		"code_challenge_methods_supported":      []string{"S256"}, "authorization_response_iss_parameter_supported": true,
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.knobs.Discovery != nil {
		p.knobs.Discovery(m)
	}
	answer(w, http.StatusOK, m)
}

func (p *Provider) jwks(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, algorithm := range slices.Sorted(maps.Keys(p.keys)) {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: p.keys[algorithm].Public(), KeyID: p.kid(algorithm), Algorithm: algorithm, Use: "sig"})
	}
	answer(w, http.StatusOK, set)
}

var page = template.Must(template.New("").Parse(`<!doctype html><title>Sign in</title><h1>Test provider</h1>
{{if .Wrong}}<p role="alert">That is not right.</p>{{end}}<form method="post" action="/authorize">
{{range $name, $values := .Query}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">{{end}}{{end}}
<label>Login <input name="login" autofocus></label> <label>Password <input name="password" type="password"></label>
<button>Sign in</button> <button name="deny" value="1">Cancel</button></form>`))

// authorize shows the login page and takes its answer.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	login, password, deny := r.PostForm.Get("login"), r.PostForm.Get("password"), r.PostForm.Has("deny")
	q := r.Form
	for _, name := range []string{"login", "password", "deny"} {
		q.Del(name)
	}
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || !back.IsAbs() || q.Get("client_id") != ClientID {
		http.Error(w, "unknown client or redirect URI", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	values := url.Values{"state": {q.Get("state")}, "iss": {p.Issuer}}
	scopes := strings.Fields(q.Get("scope"))
	user, known := p.users[login]
	switch {
	case q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || !slices.Contains(scopes, "openid"):
		values.Set("error", "invalid_request")
	case deny:
		values.Set("error", "access_denied")
		values.Set("error_description", "The person has cancelled.")
	case r.Method != http.MethodPost || !known || user.Password != password:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, map[string]any{"Query": q, "Wrong": r.Method == http.MethodPost})
		return
	default:
		code := rand.Text()
		p.codes[code] = grant{login, q.Get("redirect_uri"), q.Get("nonce"), q.Get("code_challenge"), scopes, time.Now()}
		values.Set("code", code)
	}
	if p.knobs.Callback != nil {
		p.knobs.Callback(values)
	}
	back.RawQuery = values.Encode()
	http.Redirect(w, r, back.String(), http.StatusSeeOther) //nolint:gosec // tests choose where it leads
}

// Token exchanges codes and refresh tokens, once each.
func (p *Provider) Token(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if id != ClientID || secret != ClientSecret {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	var g grant
	var ok bool
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		g, ok = p.codes[r.PostFormValue("code")]
		delete(p.codes, r.PostFormValue("code"))
		challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		ok = ok && g.redirect == r.PostFormValue("redirect_uri") && base64.RawURLEncoding.EncodeToString(challenge[:]) == g.challenge
	case "refresh_token":
		g, ok = p.fresh[r.PostFormValue("refresh_token")]
		delete(p.fresh, r.PostFormValue("refresh_token"))
		g.nonce = ""
	}
	user, known := p.users[g.login]
	if !ok || !known {
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant", "error_description": "grant request is invalid"})
		return
	}
	access := rand.Text() + rand.Text()
	p.tokens[access] = g
	response := map[string]any{
		"access_token": access, "token_type": "Bearer", "expires_in": 600, "scope": strings.Join(g.scopes, " "),
		"id_token": p.idToken(g, user, access),
	}
	if slices.Contains(g.scopes, "offline_access") {
		refresh := rand.Text() + rand.Text()
		p.fresh[refresh] = g
		response["refresh_token"] = refresh
	}
	if p.knobs.Response != nil {
		p.knobs.Response(response)
	}
	answer(w, http.StatusOK, response)
}

func (p *Provider) idToken(g grant, user User, access string) string {
	algorithm := p.knobs.Algorithm
	if algorithm == "" {
		algorithm = "RS256"
	}
	now := time.Now().Unix()
	claims := map[string]any{}
	if !p.knobs.Lean {
		maps.Copy(claims, user.Claims)
	}
	maps.Copy(claims, map[string]any{
		"iss": p.Issuer, "sub": user.Claims["sub"], "aud": ClientID, "iat": now, "exp": now + 600, "auth_time": g.at.Unix(),
		"at_hash": Hash(algorithm, access),
	})
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	if p.knobs.Claims != nil {
		p.knobs.Claims(claims)
	}
	header := map[string]any{}
	if p.knobs.Header != nil {
		p.knobs.Header(header)
	}
	if p.knobs.Sign != nil {
		return p.knobs.Sign(header, claims)
	}
	raw := p.sign(algorithm, header, claims)
	if p.knobs.Token != nil {
		raw = p.knobs.Token(raw)
	}
	return raw
}

// Hash returns the at_hash of an access token (OpenID Connect Core §3.1.3.6).
func Hash(algorithm, access string) string {
	if algorithm == "EdDSA" {
		sum := sha512.Sum512([]byte(access))
		return base64.RawURLEncoding.EncodeToString(sum[:32])
	}
	sum := sha256.Sum256([]byte(access))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, ok := p.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	claims := maps.Clone(p.users[g.login].Claims)
	if p.knobs.Userinfo != nil {
		p.knobs.Userinfo(claims)
	}
	answer(w, http.StatusOK, claims)
}

func answer(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// SignIn does what a person at a browser does who is sent to address: fills in the login
// page. It returns where the provider sends the browser then.
func (p *Provider) SignIn(t testing.TB, address, login, password string) *url.URL {
	t.Helper()
	browser := &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	form := to.Query()
	form.Set("login", login)
	form.Set("password", password)
	r, err := browser.PostForm(p.Issuer+"/authorize", form)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	back, err := r.Location()
	if err != nil {
		t.Fatalf("the provider shows its login page again: status %d", r.StatusCode)
	}
	return back
}
