package web

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// cliRequest is what a pulumi command asks for when it opens a browser: a token,
// delivered to its listener at Port of the visitor's own machine, with Nonce.
type cliRequest struct {
	Port        int
	Nonce       string
	Description string
	Command     string
}

var (
	portForm  = regexp.MustCompile(`^[1-9][0-9]{3,4}$`)
	nonceForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
	hostForm  = regexp.MustCompile(`\bon (\S{1,100}) at `)
)

// parseCLIRequest reads the request from a query or a form, strictly: the port ends
// up in an address that a token is sent to.
func parseCLIRequest(q url.Values) (cliRequest, error) {
	var c cliRequest
	for _, name := range []string{"cliSessionPort", "cliSessionNonce"} {
		if len(q[name]) != 1 {
			return c, errBadCLIRequest
		}
	}
	c.Nonce = q.Get("cliSessionNonce")
	port, err := strconv.Atoi(q.Get("cliSessionPort"))
	if err != nil || !portForm.MatchString(q.Get("cliSessionPort")) || port < 1024 || port > 65535 || !nonceForm.MatchString(c.Nonce) {
		return c, errBadCLIRequest
	}
	c.Port = port
	c.Description = strings.TrimSpace(httpapi.Clean(q.Get("cliSessionDescription"), 200))
	if c.Description == "" {
		c.Description = "pulumi login"
	}
	c.Command = strings.TrimSpace(httpapi.Clean(q.Get("cliCommand"), 60))
	return c, nil
}

var errBadCLIRequest = errs.Errorf(errs.Invalid, "this link is not complete: run pulumi login again and open the address that it prints")

// Host returns the machine that the description names, or "".
func (c cliRequest) Host() string {
	if m := hostForm.FindStringSubmatch(c.Description); m != nil {
		return m[1]
	}
	return ""
}

// lifetimes are how long a token of a login may be good for, in days.
var lifetimes = []int{1, 7, 30, 90, 365}

const loginLifetime = 30

// cliLoginForm asks the visitor whether the command is theirs. It makes no token:
// any page on the web can lead a browser here.
func (c *Console) cliLoginForm(w http.ResponseWriter, v *visit) error {
	query, err := url.ParseQuery(v.r.URL.RawQuery)
	if err != nil {
		return errBadCLIRequest
	}
	request, err := parseCLIRequest(query)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Security-Policy", policyToLoopback(request.Port))
	return c.render(w, v, http.StatusOK, "clilogin", page{
		Title: "Sign in on the command line", Narrow: true,
		Body: struct {
			cliRequest
			Lifetimes []int
			Default   int
		}{request, lifetimes, loginLifetime},
	})
}

// cliLogin makes the token, once for each nonce, and hands it over: by a redirect to
// the command's listener, or on a page for a command that runs on another machine.
func (c *Console) cliLogin(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	request, err := parseCLIRequest(form)
	if err != nil {
		return err
	}
	days, err := strconv.Atoi(form.Get("days"))
	if err != nil || days < 1 || days > 365 {
		return errs.Errorf(errs.Invalid, "choose how long the token is good for")
	}
	secret, err := c.mintForCLI(v, request, time.Duration(days)*24*time.Hour)
	if err != nil {
		return err
	}
	if form.Get("deliver") == "show" {
		return c.render(w, v, http.StatusOK, "clitoken", page{Title: "Your access token", Narrow: true, Body: secret})
	}
	// The one address that ever carries a token: the protocol of pulumi login. It is
	// the visitor's own machine, by number, since a name could resolve elsewhere.
	target := url.URL{
		Scheme: "http", Host: "127.0.0.1:" + strconv.Itoa(request.Port), Path: "/",
		RawQuery: url.Values{"accessToken": {secret}, "nonce": {request.Nonce}}.Encode(),
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policyToLoopback(request.Port))
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Location", target.String())
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

func (c *Console) mintForCLI(v *visit, request cliRequest, lifetime time.Duration) (string, error) {
	_, secret, err := c.config.Directory.CreateToken(v.r.Context(), v.who, identity.TokenRequest{
		Description: request.Description,
		Expires:     c.config.Now().Add(lifetime),
		Via:         "cli-login",
		Nonce:       request.Nonce,
	})
	if errors.Is(err, errs.Conflict) {
		return "", errs.Wrap(errs.Conflict, err, "this sign-in has been used, run pulumi login again")
	}
	return secret, err
}

// welcome is where the command's listener sends the browser at the end. It shows
// nothing of the token and nothing that needs a session.
func (c *Console) welcome(w http.ResponseWriter, v *visit) error {
	return c.render(w, v, http.StatusOK, "welcome", page{Title: "You are signed in", Narrow: true})
}
