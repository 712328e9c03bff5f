package web

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

//go:embed templates
var templateFS embed.FS

// pages are the templates by the name of their file without its extension. Each is
// parsed together with layout.html and parts.html.
type pages map[string]*template.Template

func (c *Console) loadPages() (pages, error) {
	base, err := template.New("layout.html").Funcs(c.functions()).Option("missingkey=error").
		ParseFS(templateFS, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(templateFS, "templates/*.html")
	if err != nil {
		return nil, err
	}
	all := make(pages)
	for _, name := range names {
		short := strings.TrimSuffix(strings.TrimPrefix(name, "templates/"), ".html")
		if short == "layout" || short == "parts" {
			continue
		}
		page, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if all[short], err = page.ParseFS(templateFS, name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// page is what the layout shows around a page's own content.
type page struct {
	Title   string
	Crumbs  []crumb
	Tabs    []tab
	Sub     []tab  // below the tabs: the parts of one of them
	Narrow  bool   // one column in the middle: forms and messages
	Body    any    // of the page's own template
	Refresh int    // seconds until the browser loads the page again, 0 for never
	Script  string // the page's own static script, "" for none

	// Filled in by render.
	User    *visitor
	Current string // the organization that the page is about
	Version string
}

type visitor struct {
	Login, Name, Email, Initial string
	Organizations               []wireOrganization
	SiteAdmin                   bool
	Founds                      bool // may make organizations
}

type crumb struct{ Text, Path string }

type tab struct {
	Text, Path string
	Current    bool
}

// render answers with a page of the given status. The page is complete before its
// first byte is sent.
func (c *Console) render(w http.ResponseWriter, v *visit, status int, name string, p page) error {
	p.Version = c.config.Version
	if len(p.Crumbs) > 0 {
		p.Current = p.Crumbs[0].Text
	}
	if v.in {
		p.User = v.visitor()
	}
	var b bytes.Buffer
	if err := c.pages[name].ExecuteTemplate(&b, "layout.html", p); err != nil {
		return errs.Wrap(errs.Internal, err, "rendering "+name)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a reader who has gone away needs no answer
	return nil
}

// visitor returns what the page's head shows of who is signed in. When the API does
// not say, the session does: an error page must not depend on what has failed.
func (v *visit) visitor() *visitor {
	u := &visitor{Login: v.who.Login, Name: v.who.Name, Email: v.who.Email, SiteAdmin: v.who.SiteAdmin, Founds: v.founds()}
	if me, err := v.user(); err == nil {
		u.Organizations = me.Organizations
	}
	if u.Name == "" {
		u.Name = u.Login
	}
	for _, r := range u.Name {
		u.Initial = strings.ToUpper(string(r))
		break
	}
	return u
}

// errNoPage is the answer to a path that can be no page.
var errNoPage = errs.Errorf(errs.NotFound, "there is nothing at this address, or you may not see it. Names may have changed: look for the stack in its organization")

func (c *Console) notFound(http.ResponseWriter, *visit) error { return errNoPage }

// failure is what an error page says.
type failure struct {
	Status    int
	Heading   string
	Message   string
	Path      string // where to go from here
	PathText  string
	RequestID string
}

// fail answers with a page about err. Who has to use an organization's single sign-on
// is led there.
func (c *Console) fail(w http.ResponseWriter, v *visit, err error) {
	httpapi.LogError(c.config.Log, v.r, err)
	var sso *needsSSO
	asked := errors.As(err, &sso)
	if asked && v.r.Method != http.MethodPost {
		http.Redirect(w, v.r, sso.path(v.r.URL.RequestURI()), http.StatusSeeOther)
		return
	}
	status := httpapi.Status(err)
	f := failure{Status: status, Message: sentence(httpapi.Message(v.r, err)), Path: "/", PathText: "To your stacks", RequestID: httpapi.RequestID(v.r.Context())}
	switch errs.KindOf(err) {
	case errs.NotFound:
		f.Heading = "Nothing here"
	case errs.Forbidden:
		f.Heading = "Not allowed"
	case errs.Unauthenticated:
		f.Heading, f.Path, f.PathText = "Sign in again", "/signin", "Sign in"
		if asked {
			f.Heading, f.Path, f.PathText = "Single sign-on", sso.path(""), "Sign in through "+sso.organization
		}
	case errs.Internal:
		f.Heading = "This is our fault"
	case errs.Unavailable, errs.Exhausted:
		f.Heading, f.Path, f.PathText = "Not now", returnTo(v.r.URL.RequestURI()), "Try again"
		w.Header().Set("Retry-After", "5")
	case errs.Conflict:
		f.Heading = "Already done"
	default:
		f.Heading = "That did not work"
	}
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, HEAD, POST")
	}
	if err := c.renderFailure(w, v, f); err != nil {
		httpapi.LogError(c.config.Log, v.r, err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

func (c *Console) renderFailure(w http.ResponseWriter, v *visit, f failure) error {
	return c.render(w, v, f.Status, "error", page{Title: f.Heading, Narrow: true, Body: f})
}

// sentence makes a sentence of an error's text.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if !strings.ContainsAny(text[len(text)-1:], ".?:") {
		text += "."
	}
	return text
}

// functions are what templates call.
func (c *Console) functions() template.FuncMap {
	now := func() time.Time { return c.config.Now() }
	return template.FuncMap{
		"asset":      func(name string) string { return c.assets.url(name) },
		"ago":        func(t time.Time) string { return ago(now(), t) },
		"date":       func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") },
		"second":     func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04:05 UTC") },
		"iso":        func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"known":      func(t time.Time) bool { return !t.IsZero() },
		"past":       func(t time.Time) bool { return t.Before(now()) },
		"count":      count,
		"number":     number,
		"lower":      strings.ToLower,
		"sentence":   sentence,
		"took":       took,
		"login":      c.loginCommand,
		"domain":     c.domainHint,
		"apiURL":     func() string { return c.api.String() },
		"shortURN":   shortURN,
		"typeName":   typeName,
		"withReturn": withReturn,
		"pair":       func(a, b any) [2]any { return [2]any{a, b} },
	}
}
