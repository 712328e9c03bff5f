package authcodetest_test

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/internal/authcode/authcodetest"
)

var (
	action = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
	button = regexp.MustCompile(`<button type="submit" name="([^"]*)" value="([^"]*)" id="([^"]*)"`)
)

// press fills in the form of a page and presses a button of it.
func press(t *testing.T, browser *http.Client, page *http.Response, id string) *http.Response {
	t.Helper()
	text, err := io.ReadAll(page.Body)
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	form := url.Values{}
	for _, field := range hidden.FindAllStringSubmatch(string(text), -1) {
		form.Add(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	found := false
	for _, b := range button.FindAllStringSubmatch(string(text), -1) {
		if b[3] == id {
			form.Set(b[1], html.UnescapeString(b[2]))
			found = true
		}
	}
	to := action.FindStringSubmatch(string(text))
	if !found || to == nil {
		t.Fatalf("no button %s on the page %s", id, text)
	}
	where, err := page.Request.URL.Parse(html.UnescapeString(to[1]))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := browser.PostForm(where.String(), form)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestPages walks the pages as a browser does that somebody sits at.
func TestPages(t *testing.T) {
	s := authcodetest.Start(t, authcodetest.Dialect{Title: "Somewhere", AuthorizePath: "/authorize", TokenPath: "/token"})
	s.AddLogin("ada")
	s.AddLogin("grace")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), s.URL) {
			return nil
		}
		return http.ErrUseLastResponse
	}}
	to := s.URL + "/authorize?" + url.Values{
		"client_id": {s.ClientID}, "state": {`a"<state>`}, "redirect_uri": {"https://rp.example/callback"}, "scope": {"x y"},
	}.Encode()
	open := func(to string) *http.Response {
		page, err := browser.Get(to)
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	back := func(answer *http.Response) url.Values {
		t.Helper()
		answer.Body.Close()
		u, err := answer.Location()
		if err != nil || u.Host != "rp.example" || u.Query().Get("state") != `a"<state>` {
			t.Fatalf("status %d to %v", answer.StatusCode, u)
		}
		return u.Query()
	}
	approval := press(t, browser, open(to), "login-grace")
	if q := back(press(t, browser, approval, "cancel")); q.Get("error") != "access_denied" || q.Has("code") {
		t.Errorf("declined: %v", q)
	}
	if q := back(press(t, browser, open(to), "authorize")); q.Get("code") == "" {
		t.Errorf("approved: %v", q)
	}
	if q := back(open(to)); q.Get("code") == "" {
		t.Errorf("approved already: %v", q)
	}
	other := press(t, browser, open(to+"&prompt=select_account"), "login-ada")
	if q := back(press(t, browser, other, "authorize")); q.Get("code") == "" {
		t.Errorf("another account: %v", q)
	}
}
