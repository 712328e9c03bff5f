package web

import (
	"errors"
	"mime"
	"net/http"
	"net/url"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// visit is one request for a page.
type visit struct {
	c   *Console
	r   *http.Request
	who identity.Principal
	in  bool      // who is signed in
	me  *wireUser // see user
}

// maxForm bounds what a form may send.
const maxForm = 64 << 10

// ServeHTTP answers with a page. Paths below /api/ are not the console's.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.setHeaders(w.Header())
	v := &visit{c: c, r: r}
	if err := c.guard(r); err != nil {
		c.fail(w, v, err)
		return
	}
	c.mux.ServeHTTP(w, r)
}

// handler adapts a route: it finds out who is asking, and turns an error into a
// page.
func (c *Console) handler(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{c: c, r: r}
		if route.access != static {
			if err := c.recognize(w, v); err != nil {
				c.fail(w, v, err)
				return
			}
		}
		if route.access == signedIn && !v.in {
			c.askToSignIn(w, v)
			return
		}
		if err := route.serve(c, w, v); err != nil {
			c.fail(w, v, err)
		}
	})
}

// recognize finds the visitor's session. An unknown or ended one is forgotten by
// the browser too. A failure to look it up is an error and not a stranger: a person
// must not be sent to sign in because the database is away.
func (c *Console) recognize(w http.ResponseWriter, v *visit) error {
	secret := c.cookieValue(v.r, "")
	if secret == "" {
		return nil
	}
	who, err := c.config.Directory.AuthenticateSession(v.r.Context(), secret)
	switch {
	case err == nil:
		v.who, v.in = who, true
		return nil
	case errors.Is(err, errs.Unauthenticated):
		c.dropCookie(w, "")
		return nil
	}
	return err
}

// askToSignIn sends the visitor to sign in and back here afterwards.
func (c *Console) askToSignIn(w http.ResponseWriter, v *visit) {
	to := "/signin"
	if v.r.Method != http.MethodPost && v.r.URL.Path != "/" {
		to += "?" + url.Values{"returnTo": {v.r.URL.RequestURI()}}.Encode()
	}
	http.Redirect(w, v.r, to, http.StatusSeeOther)
}

// api returns the API as the visitor may use it.
func (v *visit) api() *api {
	return &api{handler: v.c.config.API, who: v.who, ctx: v.r.Context(), address: v.r.RemoteAddr}
}

// user returns what the API says about the visitor.
func (v *visit) user() (*wireUser, error) {
	if v.me == nil {
		me := new(wireUser)
		if err := v.api().get(nil, me, "user"); err != nil {
			return nil, err
		}
		v.me = me
	}
	return v.me, nil
}

// form returns the fields of the form that was sent. Only what a browser's form
// sends is one.
func (v *visit) form(w http.ResponseWriter) (url.Values, error) { return v.formUpTo(w, maxForm) }

func (v *visit) formUpTo(w http.ResponseWriter, limit int64) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(v.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, errs.Errorf(errs.Unsupported, "this address takes what the console's own forms send, nothing else")
	}
	v.r.Body = http.MaxBytesReader(w, v.r.Body, limit)
	if err := v.r.ParseForm(); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, errs.Errorf(errs.TooLarge, "the form is larger than %d bytes", limit)
		}
		return nil, errs.Errorf(errs.Invalid, "the form cannot be read, go back and send it again")
	}
	for name, values := range v.r.PostForm {
		// Two readers of a repeated field could take different ones.
		if len(values) > 1 {
			return nil, errs.Errorf(errs.Invalid, "the form has the field %q twice", httpapi.Clean(name, 40))
		}
	}
	return v.r.PostForm, nil
}

// names returns the path's organization, project and stack, as far as the page has
// them. A name that cannot exist is not found.
func (v *visit) names() (stackName, error) {
	n := stackName{Organization: v.r.PathValue("org"), Project: v.r.PathValue("project"), Stack: v.r.PathValue("stack")}
	for _, name := range []string{n.Organization, n.Project, n.Stack} {
		if name != "" && !validName(name) {
			return n, errNoPage
		}
	}
	return n, nil
}

// stackName names a stack, or what it is in where its fields are empty.
type stackName struct{ Organization, Project, Stack string }

// segments returns the API's path of the stack, followed by more.
func (n stackName) segments(more ...string) []string {
	return append([]string{"stacks", n.Organization, n.Project, n.Stack}, more...)
}

// Path returns the console's path, followed by more segments.
func (n stackName) Path(more ...string) string {
	path := ""
	for _, s := range append([]string{n.Organization, n.Project, n.Stack}, more...) {
		if s != "" {
			path += "/" + url.PathEscape(s)
		}
	}
	return path
}

// validName holds a name against the grammar of Pulumi's names.
func validName(name string) bool {
	if len(name) > 100 || name == "." || name == ".." {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return name != ""
}
