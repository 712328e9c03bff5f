package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// Metadata describes Ipuka to identity providers.
type Metadata interface {
	// Metadata returns the SAML metadata of an organization's service provider;
	// errs.NotFound for an organization that cannot have one.
	Metadata(ctx context.Context, organizationLogin string) ([]byte, error)
}

// none are the connectors of an installation without any.
type none struct{}

func (none) Site() []identity.Connector { return nil }

func (none) Find(context.Context, string) (identity.Connector, error) {
	return nil, errNoConnector
}

var errNoConnector = errs.Errorf(errs.NotFound, "there is no such way to sign in here")

// provider is a connector as the pages use it.
type provider struct {
	identity.Connector
	info         identity.ConnectorInfo
	organization identity.Organization // that it belongs to; zero for those of the installation
}

// siteProvider finds a connector of the installation.
func (c *Console) siteProvider(ctx context.Context, name string) (provider, error) {
	p, err := c.provider(ctx, name)
	if err == nil && p.info.OrganizationID != "" {
		return provider{}, errNoConnector
	}
	return p, err
}

func (c *Console) provider(ctx context.Context, name string) (provider, error) {
	found, err := c.config.Connectors.Find(ctx, name)
	if err != nil {
		return provider{}, err
	}
	p := provider{Connector: found, info: found.Info()}
	if p.info.OrganizationID != "" {
		p.organization, err = c.config.Directory.OrganizationByID(ctx, p.info.OrganizationID)
	}
	return p, err
}

// organizationProvider finds the single sign-on of an organization. That there is no
// such organization and that it has none read the same.
func (c *Console) organizationProvider(ctx context.Context, login string) (provider, error) {
	if !validName(login) {
		return provider{}, errNoSSO
	}
	organization, err := c.config.Directory.Organization(ctx, login)
	if errors.Is(err, errs.NotFound) {
		return provider{}, errNoSSO
	} else if err != nil {
		return provider{}, err
	}
	found, err := c.config.Connectors.Find(ctx, identity.SAMLConnector(organization.ID))
	if errors.Is(err, errs.NotFound) {
		return provider{}, errNoSSO
	} else if err != nil {
		return provider{}, err
	}
	return provider{found, found.Info(), organization}, nil
}

var errNoSSO = errs.Errorf(errs.NotFound, "no organization of this name has single sign-on here")

// callback is the address that the provider sends browsers back to. It differs from
// one provider to the next, so that what one of them says is never taken for what
// another one says.
func (p provider) callback(c *Console) string {
	if p.info.OrganizationID != "" {
		return c.url.JoinPath("login", p.organization.Login, "sso", "saml", "acs").String()
	}
	return c.url.JoinPath("signin", "with", p.info.Name, "callback").String()
}

// sendWith sends the browser to a connector of the installation.
func (c *Console) sendWith(w http.ResponseWriter, v *visit) error {
	p, err := c.siteProvider(v.r.Context(), v.r.PathValue("connector"))
	if err != nil {
		return err
	}
	return c.send(w, v, p, toSignIn, returnTo(v.r.URL.Query().Get("returnTo")))
}

// send begins a flow and sends the browser to the provider.
func (c *Console) send(w http.ResponseWriter, v *visit, p provider, why purpose, to string) error {
	if !navigates(v.r) {
		return errs.Errorf(errs.Invalid, "open this address in a window of its own")
	}
	if address := c.elsewhere(v.r); address != "" {
		http.Redirect(w, v.r, address, http.StatusSeeOther)
		return nil
	}
	f := c.newFlow(v, p.info.Name, p.callback(c), why, to)
	redirect, err := p.Begin(v.r.Context(), f.Flow)
	if err != nil {
		return c.refuse(w, v, p, f, err)
	}
	if err := c.keepFlow(w, v.r, f, p.info.Kind == identity.KindSAML); err != nil {
		return err
	}
	return c.handOff(w, v, p, redirect)
}

// elsewhere returns where a browser has to begin a flow that has come by another name
// of this console: the provider leads back to the console's own, which would not get
// the cookie. It is asked to move once, in case a proxy in front hides the name.
func (c *Console) elsewhere(r *http.Request) string {
	query := r.URL.Query()
	asked := url.URL{Host: r.Host}
	if r.Method != http.MethodGet || strings.EqualFold(asked.Hostname(), c.url.Hostname()) || query.Has("moved") {
		return ""
	}
	query.Set("moved", "")
	target := url.URL{Scheme: c.url.Scheme, Host: c.url.Host, Path: r.URL.Path, RawQuery: query.Encode()}
	return target.String()
}

// navigates reports whether r loads a page rather than a part of one: images on
// somebody's page must not use up the flows of their readers.
func navigates(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return r.Method != http.MethodHead && (mode == "" || mode == "navigate")
}

// handOffPage sends the browser on by its script, or by hand where none runs.
type handOffPage struct {
	Title, Host string
	URL         string
	Fields      []field // of the form; without any it is a link
}

type field struct{ Name, Value string }

// handOff sends the browser where the connector wants it. Browsers do not follow a
// redirect to another site after a form was sent (form-action, CSP3 §6.4.1), so then,
// too, there is a page between.
func (c *Console) handOff(w http.ResponseWriter, v *visit, p provider, to identity.Redirect) error {
	u, err := url.Parse(to.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return errs.Wrap(errs.Internal, err, "a connector leads to an address that is none")
	}
	if to.Form == nil && v.r.Method == http.MethodGet && !v.r.URL.Query().Has("organization") {
		http.Redirect(w, v.r, to.URL, http.StatusSeeOther)
		return nil
	}
	body := handOffPage{Title: p.info.Title, Host: u.Host, URL: to.URL}
	for _, name := range sortedKeys(to.Form) {
		for _, value := range to.Form[name] {
			body.Fields = append(body.Fields, field{name, value})
		}
	}
	if to.Form != nil {
		w.Header().Set("Content-Security-Policy", policyToPost(u))
	}
	return c.render(w, v, http.StatusOK, "handoff", page{Title: "Going to " + p.info.Title, Narrow: true, Script: "handoff.js", Body: body})
}

// callbackWith is where providers send browsers back by a redirect.
func (c *Console) callbackWith(w http.ResponseWriter, v *visit) error {
	if !navigates(v.r) {
		return errs.Errorf(errs.Invalid, "open this address in a window of its own")
	}
	p, err := c.siteProvider(v.r.Context(), v.r.PathValue("connector"))
	if err != nil {
		return err
	}
	values, err := url.ParseQuery(v.r.URL.RawQuery)
	if err != nil || len(values["state"]) != 1 {
		return c.refuse(w, v, p, flow{}, c.unknownFlow(p, flowUnknown))
	}
	return c.comeBack(w, v, p, values, values.Get("state"))
}

// maxAssertion bounds the form of an identity provider's answer.
const maxAssertion = 512 << 10

// consumeAssertion is where the identity providers of organizations have browsers
// send their answers.
func (c *Console) consumeAssertion(w http.ResponseWriter, v *visit) error {
	p, err := c.organizationProvider(v.r.Context(), v.r.PathValue("org"))
	if err != nil {
		return err
	}
	form, err := v.formUpTo(w, maxAssertion)
	if err != nil {
		return err
	}
	if relay := form.Get("RelayState"); relay == "" || relay == "cli" {
		// Nobody was sent: it began at the provider, which the connector allows or not.
		f := c.newFlow(v, p.info.Name, p.callback(c), toSignIn, "/")
		f.Request = ""
		return c.finish(w, v, p, f, form)
	}
	return c.comeBack(w, v, p, form, form.Get("RelayState"))
}

func (c *Console) unknownFlow(p provider, reason string) error {
	return identity.Refuse(reason, identity.Principal{Connector: p.info.Name}, "the sign-in did not work")
}

// comeBack finds out what the browser had been sent for.
func (c *Console) comeBack(w http.ResponseWriter, v *visit, p provider, values url.Values, state string) error {
	f, reason := c.takeFlow(w, v.r, state, p.info.Name)
	if reason != "" {
		return c.refuse(w, v, p, f, c.unknownFlow(p, reason))
	}
	if f.Purpose != toSignIn {
		who, going, err := c.holder(v.r.Context(), v, f)
		if err != nil {
			return err
		}
		if !going {
			return c.refuse(w, v, p, f, c.unknownFlow(p, flowSession))
		}
		v.who, v.in = who, true
	}
	return c.finish(w, v, p, f, values)
}

// finish judges what the browser brought back, and does what it had been sent for.
func (c *Console) finish(w http.ResponseWriter, v *visit, p provider, f flow, values url.Values) error {
	x, err := p.Finish(v.r.Context(), f.Flow, identity.Response{Method: v.r.Method, Values: values})
	if err != nil {
		return c.refuse(w, v, p, f, err)
	}
	switch f.Purpose {
	case toLink:
		return c.link(w, v, p, f, x)
	case toTest:
		return c.showTest(w, v, p, f, x)
	case toConfirm:
		owner, err := c.config.Directory.UserByIdentity(v.r.Context(), identity.Identity{Connector: p.info.Name, Subject: x.Subject})
		if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		if owner.ID != f.UserID {
			return c.refuse(w, v, p, f, c.unknownFlow(p, otherAccount))
		}
	}
	arrived, err := c.config.Directory.Arrive(v.r.Context(), p.info, f.Flow, x)
	if err != nil {
		return c.failSignIn(w, v, p, f, err) // Arrive has put it on record
	}
	if !v.in {
		// A form from another site came without the session's cookie.
		if v.who, v.in, err = c.holder(v.r.Context(), v, f); err != nil {
			return err
		}
	}
	return c.enter(w, v, arrived.Secret, f.ReturnTo)
}

// refuse puts on record, once, that p or a step around it has refused somebody, and
// answers with a page that tells a stranger nothing.
func (c *Console) refuse(w http.ResponseWriter, v *visit, p provider, f flow, err error) error {
	shown := c.config.Directory.Refused(v.r.Context(), p.info, err)
	if f.Purpose == toTest && v.in {
		return c.showRefusal(w, v, p, f, err, shown)
	}
	return c.failSignIn(w, v, p, f, shown)
}

// logFault logs what is our own fault, or that of something we depend on. A refusal that
// stands for such a fault hides it from the visitor and from the record.
func (c *Console) logFault(v *visit, err error) {
	var refusal *identity.Refusal
	if errors.As(err, &refusal) && refusal.Reason == identity.InternalError {
		c.config.Log.ErrorContext(v.r.Context(), "sign-in failed", "request", httpapi.RequestID(v.r.Context()), "error", err)
		return
	}
	httpapi.LogError(c.config.Log, v.r, err)
}

// failSignIn answers with a page about a sign-in that did not work. It has the one
// text for every reason, and nothing that the provider said: the reason is on record
// under the request's ID.
func (c *Console) failSignIn(w http.ResponseWriter, v *visit, p provider, f flow, err error) error {
	c.logFault(v, err)
	page := failure{
		Heading: "Sign-in did not work", Path: "/signin", PathText: "Back to sign-in", RequestID: httpapi.RequestID(v.r.Context()),
		Message: "Nobody was signed in. Try again. If it happens again, give an administrator the number of this request: the reason is on record.",
	}
	switch errs.KindOf(err) {
	case errs.Unavailable:
		page.Status = http.StatusServiceUnavailable
		page.Message = "Signing in with " + p.info.Title + " is not possible at the moment. Try again later, or sign in another way."
		w.Header().Set("Retry-After", "30")
	case errs.Internal:
		page.Status = http.StatusInternalServerError
	default:
		page.Status = http.StatusBadRequest
	}
	switch {
	case f.Purpose == toLink:
		page.Heading, page.Path, page.PathText = "Nothing was linked", "/user/settings/identities", "Back to sign-in methods"
	case f.Purpose == toConfirm:
		page.Path, page.PathText = "/signin/again?"+url.Values{"returnTo": {f.ReturnTo}}.Encode(), "Try again"
	case f.ReturnTo != "" && f.ReturnTo != "/":
		page.Path += "?" + url.Values{"returnTo": {f.ReturnTo}}.Encode()
	}
	return c.renderFailure(w, v, page)
}
