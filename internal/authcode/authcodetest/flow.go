package authcodetest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const choosePage = `<!doctype html><html lang="en"><title>Sign in to {{.Title}}</title>
<h1>Sign in to {{.Title}}</h1><form method="post" action="{{.Action}}">
<input type="hidden" name="return_to" value="{{.ReturnTo}}">
{{range .Logins}}<button type="submit" name="login" value="{{.}}" id="login-{{.}}">{{.}}</button>
{{end}}</form></html>`

const approvePage = `<!doctype html><html lang="en"><title>Authorize application</title>
<h1>{{.Title}}: authorize application</h1><p>Signed in as <b>{{.Login}}</b>. Scopes: {{.Query.Get "scope"}}</p>
<form method="post" action="{{.Action}}">
{{range $name, $values := .Query}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">{{end}}{{end}}
<button type="submit" name="authorize" value="1" id="authorize">Authorize</button>
<button type="submit" name="authorize" value="0" id="cancel">Cancel</button></form></html>`

var pages = template.Must(template.Must(template.New("choose").Parse(choosePage)).New("approve").Parse(approvePage))

const (
	signInPath = "/session"
	cookie     = "provider_session"
	decision   = "authorize"
)

func (s *Server) show(w http.ResponseWriter, page string, values map[string]any) {
	values["Title"] = s.dialect.Title
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := pages.ExecuteTemplate(w, page, values); err != nil {
		panic(err) // the templates are constants
	}
}

// signedIn returns the login of the browser's session, and whether that account has
// approved the application.
func (s *Server) signedIn(r *http.Request) (login string, approved bool) {
	c, err := r.Cookie(cookie)
	if err != nil {
		return "", false
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	login = s.sessions[c.Value]
	return login, s.approved[login]
}

// authorize shows the page that is to be shown next, or sends the browser back at once
// when there is nothing to ask.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Get("client_id") != s.ClientID {
		http.Error(w, "there is no such application", http.StatusNotFound)
		return
	}
	login, approved := s.signedIn(r)
	prompt := query.Get("prompt")
	switch {
	case login == "" || query.Get("chosen") == "" && (prompt == "login" || prompt == "select_account"):
		query.Set("chosen", "1")
		s.mutex.Lock()
		logins := slices.Sorted(maps.Keys(s.logins))
		s.mutex.Unlock()
		s.show(w, "choose", map[string]any{"Action": signInPath, "ReturnTo": r.URL.Path + "?" + query.Encode(), "Logins": logins})
	case approved && prompt != "consent":
		s.back(w, r, query, login)
	default:
		s.show(w, "approve", map[string]any{"Action": s.dialect.AuthorizePath, "Login": login, "Query": query})
	}
}

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	login, to := r.PostFormValue("login"), r.PostFormValue("return_to")
	id := rand.Text()
	s.mutex.Lock()
	known := s.logins[login]
	if known {
		s.sessions[id] = login
	}
	s.mutex.Unlock()
	if !known || !strings.HasPrefix(to, s.dialect.AuthorizePath+"?") {
		http.Error(w, "there is no such account", http.StatusUnprocessableEntity)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}) //nolint:gosec // the server has no TLS
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

func (s *Server) approve(w http.ResponseWriter, r *http.Request) {
	login, _ := s.signedIn(r)
	if err := r.ParseForm(); err != nil || login == "" || r.PostForm.Get("client_id") != s.ClientID {
		http.Error(w, "sign in first", http.StatusUnprocessableEntity)
		return
	}
	if r.PostForm.Get(decision) != "1" {
		s.sendBack(w, r.PostForm, url.Values{"error": {"access_denied"}, "error_description": {"The user has denied your application access."}})
		return
	}
	s.mutex.Lock()
	s.approved[login] = true
	s.mutex.Unlock()
	s.back(w, r, r.PostForm, login)
}

// back sends the browser back with a code.
func (s *Server) back(w http.ResponseWriter, _ *http.Request, query url.Values, login string) {
	to := query.Get("redirect_uri")
	switch challenge := query.Get("code_challenge"); {
	case len(s.Callbacks) > 0 && !slices.Contains(s.Callbacks, to):
		http.Error(w, "redirect_uri is not registered", http.StatusBadRequest)
	case challenge != "" && query.Get("code_challenge_method") != "S256", challenge == "" && s.dialect.RequirePKCE:
		s.sendBack(w, query, url.Values{"error": {"invalid_request"}, "error_description": {"PKCE with S256 is needed."}})
	default:
		code := rand.Text()
		s.mutex.Lock()
		s.codes[code] = grant{login, to, challenge, time.Now().Add(10 * time.Minute)}
		s.mutex.Unlock()
		s.sendBack(w, query, url.Values{"code": {code}})
	}
}

func (s *Server) sendBack(w http.ResponseWriter, query, answer url.Values) {
	to, err := url.Parse(query.Get("redirect_uri"))
	if err != nil || to.Host == "" {
		http.Error(w, "redirect_uri is no URL", http.StatusBadRequest)
		return
	}
	answer.Set("state", query.Get("state"))
	to.RawQuery = answer.Encode()
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusFound)
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	answer, status := map[string]any{}, http.StatusOK
	failure := "invalid_client"
	if id == s.ClientID && subtle.ConstantTimeCompare([]byte(secret), []byte(s.ClientSecret)) == 1 {
		answer, failure = s.exchange(r)
	}
	if failure != "" {
		status = http.StatusBadRequest
		if failure == "invalid_client" {
			status = http.StatusUnauthorized
		}
		if own := s.dialect.Errors[failure]; own != "" {
			failure = own
		} else if failure == RefreshGone || failure == CallbackDiffers {
			failure = "invalid_grant"
		}
		answer = map[string]any{"error": failure, "error_description": "The provider does not like the request."}
	}
	s.answer(w, r, status, answer)
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, status int, answer map[string]any) {
	if s.dialect.Form {
		status = http.StatusOK
	}
	if s.dialect.Form && !strings.Contains(r.Header.Get("Accept"), "json") {
		form := url.Values{}
		for name, value := range answer {
			if n, number := value.(int); number {
				value = strconv.Itoa(n)
			}
			form.Set(name, value.(string))
		}
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		_, _ = w.Write([]byte(form.Encode()))
		return
	}
	Reply(w, status, answer)
}

// Reply answers with JSON.
func Reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// What RFC 6749 calls invalid_grant and a dialect may have other names for.
const (
	RefreshGone     = "refresh token gone"
	CallbackDiffers = "callback differs"
)

// exchange returns tokens for a code or a refresh token, or one of RFC 6749's error
// codes or of those above.
func (s *Server) exchange(r *http.Request) (answer map[string]any, failure string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	grants, key, gone := s.codes, r.PostFormValue("code"), "invalid_grant"
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
	case "refresh_token":
		grants, key, gone = s.refresh, r.PostFormValue("refresh_token"), RefreshGone
	default:
		return nil, "unsupported_grant_type"
	}
	g, known := grants[key]
	delete(grants, key)
	if !known || time.Now().After(g.expires) {
		return nil, gone
	}
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	to := r.PostFormValue("redirect_uri")
	switch {
	case g.callback != "" && to != g.callback && (to != "" || s.dialect.RequireCallback):
		return nil, CallbackDiffers
	case g.challenge != "" && base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge:
		return nil, "invalid_grant"
	}
	return s.issue(g.login), ""
}

// issue makes tokens for an account.
func (s *Server) issue(login string) map[string]any {
	g := grant{login: login, expires: time.Now().AddDate(10, 0, 0)}
	access, refresh := s.dialect.AccessPrefix+rand.Text(), s.dialect.RefreshPrefix+rand.Text()
	answer := map[string]any{"access_token": access, "token_type": "bearer", "scope": s.dialect.Scope}
	if s.TokenLife > 0 || !s.dialect.NoRefresh {
		s.refresh[refresh] = g
		answer["refresh_token"] = refresh
	}
	if s.TokenLife > 0 {
		g.expires = time.Now().Add(s.TokenLife)
		answer["expires_in"] = int(s.TokenLife / time.Second)
	}
	s.access[access] = g
	return answer
}
