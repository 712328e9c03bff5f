package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// browse stands for a desktop's browser, as the program that the CLI opens URLs with:
//
//	ipuka-test-browser URL [TEXT…]
//
// It signs in where it is asked to, confirms what the CLI asks for, goes through the
// pages of providers, and then presses the buttons and follows the links with each
// TEXT. At the end it prints where it is and what the page says. An answer that is an
// error ends it with status 1. It keeps its cookies from one run to the next, for each
// person, and in the file secrets what nobody else may know.
//
// IPUKA_TEST_VIA says how it signs in: with the password of admin when it is empty,
// with "github", with the name of an organization through that one's single sign-on,
// or, with "-", not at all. IPUKA_TEST_PERSON is the login at the provider.
func browse() {
	b := &browser{
		via: os.Getenv("IPUKA_TEST_VIA"), person: os.Getenv("IPUKA_TEST_PERSON"), home: os.Getenv("HOME"),
		client: &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	err := b.walk(os.Args[1], os.Args[2:])
	if err == nil {
		fmt.Printf("%s\n%s\n", b.at, textOf(b.page))
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	if errors.Join(err, b.save()) != nil {
		os.Exit(1)
	}
}

// browser is at a page. What it sends of its cookies, and says about where a request
// comes from, is what real browsers do: the console's defences count on it.
type browser struct {
	via, person, home string
	client            *http.Client
	cookies           map[string]map[string]kept // by host without port, and name
	secrets           []string
	console           string // host
	at                *url.URL
	status            int
	page              *html.Node
}

type kept struct {
	Value string
	None  bool // SameSite=None
}

func (b *browser) walk(address string, texts []string) error {
	start, err := url.Parse(address)
	if err != nil {
		return err
	}
	b.console = start.Host
	if err := b.open(); err != nil {
		return err
	}
	if err := b.load(nil, start, nil); err != nil {
		return err
	}
	for range 15 {
		if b.status >= http.StatusBadRequest {
			return fmt.Errorf("%s (%d) says:\n%s", b.at.Path, b.status, textOf(b.page))
		}
		moved, err := b.step()
		if err != nil {
			return fmt.Errorf("at %s: %w", b.at.Path, err)
		}
		if moved {
			continue
		}
		if len(texts) == 0 {
			return nil
		}
		if err := b.press(texts[0]); err != nil {
			return err
		}
		texts = texts[1:]
	}
	return errors.New("the pages do not come to an end")
}

// step does what a page asks everybody for, and returns false for one that does not.
func (b *browser) step() (bool, error) {
	handOff := find(b.page, func(n *html.Node) bool { return attribute(n, "id") == "handoff" })
	switch path := b.at.Path; {
	case b.at.Host != b.console:
		return true, b.atProvider()
	case handOff != nil && handOff.Data == "a": // what handoff.js does
		return true, b.follow(handOff)
	case handOff != nil:
		return true, b.submit(handOff, nil, nil)
	case path == "/cli-login":
		return true, b.press("Allow sign-in")
	case strings.HasPrefix(path, "/signin/sso/") && strings.HasSuffix(path, "/reauth"):
		return true, b.press("Sign in with " + b.via)
	case path != "/signin" || b.via == "-":
		return false, nil
	case b.via == "":
		return true, b.submitWith("password", url.Values{"login": {"admin"}, "password": {"correct horse battery staple"}})
	case b.via == "github":
		return true, b.press("Sign in with GitHub")
	}
	return true, b.submitWith("organization", url.Values{"organization": {b.via}})
}

// atProvider does what the pages of GitHub and of SimpleSAMLphp ask for.
func (b *browser) atProvider() error {
	choice := find(b.page, func(n *html.Node) bool {
		return n.Data == "button" && attribute(n, "name") == "login" && attribute(n, "value") == b.person
	})
	switch {
	case choice != nil:
		return b.submit(formOf(choice), choice, nil)
	case b.field("authorize") != nil:
		return b.press("Authorize")
	case b.field("password") != nil:
		password := b.person + "-pw"
		b.secrets = append(b.secrets, password)
		return b.submitWith("password", url.Values{"username": {b.person}, "password": {password}})
	case b.field("SAMLResponse") != nil: // the page's script sends it
		return b.submitWith("SAMLResponse", nil)
	}
	return fmt.Errorf("somebody else's page: %s", textOf(b.page))
}

func (b *browser) field(name string) *html.Node {
	return find(b.page, func(n *html.Node) bool {
		return (n.Data == "input" || n.Data == "button") && attribute(n, "name") == name
	})
}

// submitWith sends the form that has a field of that name, with these values in it.
func (b *browser) submitWith(name string, values url.Values) error {
	field := b.field(name)
	if field == nil {
		return fmt.Errorf("there is no field %s", name)
	}
	return b.submit(formOf(field), nil, values)
}

// press presses the first button, or follows the first link, with a text.
func (b *browser) press(text string) error {
	n := find(b.page, func(n *html.Node) bool {
		return (n.Data == "a" || n.Data == "button") && strings.Contains(textOf(n), text)
	})
	switch {
	case n == nil:
		return fmt.Errorf("%s has nothing to press that says %q:\n%s", b.at.Path, text, textOf(b.page))
	case n.Data == "a":
		return b.follow(n)
	}
	return b.submit(formOf(n), n, nil)
}

func (b *browser) follow(link *html.Node) error {
	to, err := b.at.Parse(attribute(link, "href"))
	if err != nil {
		return err
	}
	return b.load(b.at, to, nil)
}

// submit sends a form as it is but for the values, with a button or without.
func (b *browser) submit(form, button *html.Node, values url.Values) error {
	if form == nil {
		return errors.New("a button without a form")
	}
	to, err := b.at.Parse(attribute(form, "action"))
	if err != nil {
		return err
	}
	filled := valuesOf(form)
	if button != nil && attribute(button, "name") != "" {
		filled.Set(attribute(button, "name"), attribute(button, "value"))
	}
	for name := range values {
		filled.Set(name, values.Get(name))
	}
	b.keepSecrets(filled)
	if strings.EqualFold(attribute(form, "method"), "post") {
		return b.load(b.at, to, filled)
	}
	to.RawQuery = filled.Encode()
	return b.load(b.at, to, nil)
}

func valuesOf(form *html.Node) url.Values {
	fields := url.Values{}
	for n := range form.Descendants() {
		name := attribute(n, "name")
		if n.Type != html.ElementNode || name == "" {
			continue
		}
		switch kind := attribute(n, "type"); {
		case n.Data == "input" && kind != "checkbox" && kind != "radio" && kind != "submit":
			fields.Set(name, attribute(n, "value"))
		case n.Data == "select":
			chosen := find(n, func(o *html.Node) bool {
				return o.Data == "option" && slices.ContainsFunc(o.Attr, func(a html.Attribute) bool { return a.Key == "selected" })
			})
			if chosen != nil {
				fields.Set(name, attribute(chosen, "value"))
			}
		}
	}
	return fields
}

// load goes to an address, from a page or none, and on through redirects.
func (b *browser) load(from, to *url.URL, form url.Values) error {
	crossed := false
	for range 10 {
		crossed = crossed || from != nil && from.Hostname() != to.Hostname()
		response, err := b.send(from, to, form, crossed)
		if err != nil {
			return err
		}
		b.keep(to, response)
		b.keepSecrets(to.Query())
		b.at, b.status = to, response.StatusCode
		if to, err = response.Location(); err == nil {
			form = nil
			_ = response.Body.Close()
			continue
		}
		b.page, err = html.Parse(response.Body)
		return errors.Join(err, response.Body.Close())
	}
	return fmt.Errorf("the redirects do not end at %s", to.Redacted())
}

// send sends one request. A form from another site goes with those cookies alone that
// are meant for that.
func (b *browser) send(from, to *url.URL, form url.Values, crossed bool) (*http.Response, error) {
	method, site := http.MethodGet, "none"
	if form != nil {
		method = http.MethodPost
	}
	switch {
	case from == nil:
	case crossed:
		site = "cross-site"
	case from.Scheme == to.Scheme && from.Host == to.Host:
		site = "same-origin"
	default:
		site = "same-site"
	}
	request, err := http.NewRequest(method, to.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", from.Scheme+"://"+from.Host)
	}
	request.Header.Set("Sec-Fetch-Site", site)
	request.Header.Set("Sec-Fetch-Mode", "navigate")
	request.Header.Set("Sec-Fetch-Dest", "document")
	for name, c := range b.cookies[to.Hostname()] {
		if form == nil || !crossed || c.None {
			request.AddCookie(&http.Cookie{Name: name, Value: c.Value})
		}
	}
	return b.client.Do(request)
}

// keep keeps an answer's cookies. Secure ones too: this machine counts as encrypted.
func (b *browser) keep(from *url.URL, response *http.Response) {
	jar := b.cookies[from.Hostname()]
	if jar == nil {
		jar = map[string]kept{}
		b.cookies[from.Hostname()] = jar
	}
	for _, c := range response.Cookies() {
		if c.MaxAge < 0 || !c.Expires.IsZero() && c.Expires.Before(time.Now()) {
			delete(jar, c.Name)
			continue
		}
		jar[c.Name] = kept{c.Value, c.SameSite == http.SameSiteNoneMode}
		if from.Host == b.console {
			b.secrets = append(b.secrets, c.Value)
		}
	}
}

func (b *browser) keepSecrets(values url.Values) {
	for _, name := range []string{"code", "state", "accessToken", "SAMLResponse", "password", "RelayState"} {
		b.secrets = append(b.secrets, values.Get(name))
	}
}

func (b *browser) open() error {
	b.cookies = map[string]map[string]kept{}
	text, err := os.ReadFile(b.jar())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return json.Unmarshal(text, &b.cookies)
}

func (b *browser) jar() string { return filepath.Join(b.home, "cookies-"+b.person+".json") }

func (b *browser) save() error {
	text, err := json.Marshal(b.cookies)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(b.home, "secrets"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strings.Join(b.secrets, "\n") + "\n")
	return errors.Join(err, file.Close(), os.WriteFile(b.jar(), text, 0o600))
}

func find(root *html.Node, match func(*html.Node) bool) *html.Node {
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && match(n) {
			return n
		}
	}
	return nil
}

func formOf(n *html.Node) *html.Node {
	for n != nil && n.Data != "form" {
		n = n.Parent
	}
	return n
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// textOf returns what a reader sees, in one line.
func textOf(n *html.Node) string {
	var words []string
	for d := range n.Descendants() {
		if d.Type == html.TextNode && d.Parent.Data != "script" && d.Parent.Data != "style" {
			words = append(words, strings.Fields(d.Data)...)
		}
	}
	return strings.Join(words, " ")
}
