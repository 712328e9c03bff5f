// Package authcodetest is the provider's side of the authorization code flow, for
// fakes of providers: pages to choose an account and to approve the application with,
// codes that work once and with PKCE's verifier only, tokens that expire and refresh
// tokens that rotate. An API is added by whoever knows it.
//
// A person, a browser or a program that fills forms in can use it. [Server.SignIn] does
// the same without any of those.
package authcodetest

import (
	"crypto/rand"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Dialect is how a provider differs from others. It must not be changed.
type Dialect struct {
	Title                        string // on the pages
	AuthorizePath, TokenPath     string
	AccessPrefix, RefreshPrefix  string            // of tokens
	Scope                        string            // as answered with a token
	Header                       http.Header       // of every answer
	Errors                       map[string]string // the provider's own names for RFC 6749's error codes
	Form                         bool              // the token endpoint answers a form, and errors with status 200
	NoRefresh                    bool              // there are refresh tokens only when tokens expire
	RequirePKCE, RequireCallback bool              // as RFC 9700 has it
}

// Server is a provider. It listens on the loopback interface until its test ends. The
// exported fields may be changed before it is used.
type Server struct {
	URL                    string
	ClientID, ClientSecret string        // of the application that is registered
	Callbacks              []string      // registered; none: any
	TokenLife              time.Duration // of an access token; 0: for ever

	dialect  Dialect
	mux      *http.ServeMux
	mutex    sync.Mutex
	logins   map[string]bool
	codes    map[string]grant
	access   map[string]grant
	refresh  map[string]grant
	sessions map[string]string // login by cookie
	approved map[string]bool   // logins that have approved the application
	fault    func(http.ResponseWriter, *http.Request) bool
	calls    []string
}

// grant is what stands behind a code or a token.
type grant struct {
	login, callback, challenge string
	expires                    time.Time
}

// Start starts a provider without accounts.
func Start(t testing.TB, d Dialect) *Server {
	t.Helper()
	s := &Server{
		ClientID: "client-" + rand.Text(), ClientSecret: "secret-" + rand.Text(), dialect: d, mux: http.NewServeMux(), logins: map[string]bool{},
		codes: map[string]grant{}, access: map[string]grant{}, refresh: map[string]grant{}, sessions: map[string]string{}, approved: map[string]bool{},
	}
	s.mux.HandleFunc("GET "+d.AuthorizePath, s.authorize)
	s.mux.HandleFunc("POST "+d.AuthorizePath, s.approve)
	s.mux.HandleFunc("POST "+signInPath, s.signIn)
	s.mux.HandleFunc("POST "+d.TokenPath, s.token)
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	maps.Copy(w.Header(), s.dialect.Header)
	s.mutex.Lock()
	fault := s.fault
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	s.mutex.Unlock()
	if fault == nil || !fault(w, r) {
		s.mux.ServeHTTP(w, r)
	}
}

// Handle adds a part of the API. It may not be called once the server is used.
func (s *Server) Handle(pattern string, handler http.HandlerFunc) { s.mux.HandleFunc(pattern, handler) }

// AddLogin makes an account that can be chosen.
func (s *Server) AddLogin(login string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.logins[login] = true
}

// Login returns whose token a request has, and false for none that is good.
func (s *Server) Login(r *http.Request) (string, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	s.mutex.Lock()
	defer s.mutex.Unlock()
	g, known := s.access[token]
	return g.login, known && strings.EqualFold(scheme, "bearer") && time.Now().Before(g.expires)
}

// Revoke takes back all codes and tokens of an account and its approval of the
// application, as the person can in the settings.
func (s *Server) Revoke(login string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, grants := range []map[string]grant{s.codes, s.access, s.refresh} {
		maps.DeleteFunc(grants, func(_ string, g grant) bool { return g.login == login })
	}
	delete(s.approved, login)
}

// SetFault has fault see every request first; true says that it has answered. nil ends
// it.
func (s *Server) SetFault(fault func(http.ResponseWriter, *http.Request) bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.fault = fault
}

// Calls returns the method and path of all requests so far.
func (s *Server) Calls() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.calls)
}

// Secrets returns the application's secret and every code and token that there is, for
// tests that look for them where they must not be.
func (s *Server) Secrets() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	secrets := []string{s.ClientSecret}
	for _, grants := range []map[string]grant{s.codes, s.access, s.refresh} {
		secrets = slices.AppendSeq(secrets, maps.Keys(grants))
	}
	return secrets
}

// SignIn does what a person with a browser does who is sent to authorizeURL: chooses
// an account and approves the application, or declines when login is "". It returns
// the query that the browser comes back with.
func (s *Server) SignIn(t testing.TB, authorizeURL, login string) url.Values {
	t.Helper()
	to, err := url.Parse(authorizeURL)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	post := func(path string, form url.Values) (*url.URL, error) {
		answer, err := browser.PostForm(s.URL+path, form)
		if err != nil {
			return nil, err
		}
		_ = answer.Body.Close()
		return answer.Location()
	}
	form := to.Query()
	form.Set(decision, "1")
	if login == "" {
		s.mutex.Lock()
		login = slices.Sorted(maps.Keys(s.logins))[0]
		s.mutex.Unlock()
		form.Set(decision, "0")
	}
	if _, err := post(signInPath, url.Values{"login": {login}, "return_to": {to.RequestURI()}}); err != nil {
		t.Fatalf("choosing the account %s: %v", login, err)
	}
	back, err := post(to.Path, form)
	if err != nil {
		t.Fatalf("deciding about the application: %v", err)
	}
	return back.Query()
}
