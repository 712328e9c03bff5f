package samltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// Browser goes through the pages of an identity provider: it keeps cookies, follows
// redirects, fills in the login form, and submits forms that submit themselves.
type Browser struct {
	Login, Password string
	client          *http.Client
}

// NewBrowser returns a browser without cookies.
func NewBrowser(t testing.TB, login, password string) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Browser{Login: login, Password: password, client: &http.Client{Jar: jar, Timeout: 30 * time.Second}}
}

// Page is a form that has been filled in.
type Page struct {
	URL  string
	Form url.Values
}

// Walk goes to an address, with a POST when there is a form, and on until a page would
// post a SAMLResponse, which it returns without doing so.
func (b *Browser) Walk(t testing.TB, address string, form url.Values) Page {
	t.Helper()
	p, err := b.Try(address, form)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Try is Walk where the identity provider may refuse to go on.
func (b *Browser) Try(address string, form url.Values) (Page, error) {
	for range 10 {
		at, text, err := b.load(address, form)
		if err != nil {
			return Page{}, err
		}
		p, ok := b.fill(at, text)
		if !ok {
			return Page{}, fmt.Errorf("no form to go on with at %s: %.2000s", at.Redacted(), text)
		}
		if p.Form.Has("SAMLResponse") {
			return p, nil
		}
		address, form = p.URL, p.Form
	}
	return Page{}, errors.New("the pages of the identity provider do not end")
}

// load returns a page with the address where the redirects have ended.
func (b *Browser) load(address string, form url.Values) (*url.URL, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	method, body := http.MethodGet, ""
	if form != nil {
		method, body = http.MethodPost, form.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %.2000s", answer.Request.URL.Redacted(), answer.Status, text)
	}
	return answer.Request.URL, string(text), err
}

// fill returns the first POST form of a page, with the credentials in it.
func (b *Browser) fill(at *url.URL, text string) (Page, bool) {
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		return Page{}, false
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode || n.Data != "form" || !strings.EqualFold(value(n, "method"), "post") {
			continue
		}
		action, err := at.Parse(value(n, "action"))
		if err != nil {
			return Page{}, false
		}
		form := url.Values{}
		for input := range n.Descendants() {
			name := value(input, "name")
			if input.Type != html.ElementNode || name == "" || input.Data != "input" && input.Data != "button" {
				continue
			}
			switch strings.ToLower(value(input, "type")) {
			case "password":
				form.Set(name, b.Password)
			case "text", "email":
				form.Set(name, b.Login)
			case "checkbox", "radio":
			default:
				form.Set(name, value(input, "value"))
			}
		}
		return Page{URL: action.String(), Form: form}, true
	}
	return Page{}, false
}

func value(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
