// Package proxy is the gate: every call of the Pulumi API passes it, and nothing
// else reaches the state service.
//
// [Gate.serve] is the request path, from top to bottom: match → authenticate →
// authorize → record → forward. It is one function and not a stack of middleware
// because the order is the security property: the state service sees a call only
// when every step has agreed, and whoever is refused is on record.
//
// What the caller may not read does not exist for them (404); what they may read
// but not do is 403. A failure of the database is 503, never 401 or 403.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/scim"
	"github.com/ipuka/ipuka/internal/assertion"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/internal/mail"
	"github.com/ipuka/ipuka/internal/sealed"
	"github.com/ipuka/ipuka/rbac"
)

// Config is what a gate is made of. Every field is required.
type Config struct {
	Directory *identity.Directory
	Engine    *rbac.Engine
	Audit     *audit.Log
	// Upstream is the state service: in this process, or a reverse proxy to it.
	Upstream http.Handler
	Signer   *assertion.Signer
	// Key is 32 random bytes that seal update tokens and cursors. Replicas share it.
	Key []byte
	Log *slog.Logger

	// Email mails invites and knows about second factors.
	Email Email
	// Connectors are the other ways to sign in.
	Connectors identity.Connectors
	// SAML and SCIM are set up by organizations; nil where there is none.
	SAML *saml.Provider
	SCIM *scim.Handler
	Mail *mail.Outbox
	// ConsoleURL is where browsers find the console, without a trailing slash.
	ConsoleURL string
	// OpenOrganizations lets everybody make organizations, not just site administrators.
	OpenOrganizations bool
}

// Email is the part of *email.Connector that the gate needs.
type Email interface {
	Factors(ctx context.Context, userID string) (email.Factors, error)
	SendInvite(ctx context.Context, invite identity.Invite, secret string) error
}

// Gate is the handler of everything below /api/. It is safe for concurrent use.
type Gate struct {
	Config
	mux     *http.ServeMux
	updates *sealed.Box
	cursors *sealed.Box
}

// New returns a gate. It fails when a route of the table is incomplete.
func New(config Config) (*Gate, error) {
	g := &Gate{Config: config, mux: http.NewServeMux()}
	var err error
	if g.updates, err = sealed.New(config.Key, "gate update tokens"); err != nil {
		return nil, err
	}
	if g.cursors, err = sealed.New(config.Key, "gate cursors"); err != nil {
		return nil, err
	}
	for _, route := range routes() {
		if err := route.check(); err != nil {
			return nil, err
		}
		g.mux.Handle(route.Method+" "+route.Pattern, httpapi.Adapt(g.Log, func(w http.ResponseWriter, r *http.Request) error {
			return g.serve(w, r, &route)
		}))
	}
	g.mux.Handle("/", httpapi.Adapt(g.Log, func(http.ResponseWriter, *http.Request) error {
		return errs.Errorf(errs.NotFound, "there is no such call in this API")
	}))
	return g, nil
}

// check reports what is missing from a route.
func (route *Route) check() error {
	switch {
	case route.Name == "" || route.Permission == "":
		return fmt.Errorf("route %s %s has no name or no permission", route.Method, route.Pattern)
	case route.Permission == lease && !strings.Contains(route.Pattern, "{update}"):
		return fmt.Errorf("route %s: an update token needs an update in the path", route.Name)
	}
	if _, known := audit.Describe(route.Event); route.Event != "" && (!known || route.Says == "") {
		return fmt.Errorf("route %s: its event %q has no words, or is not in the audit catalogue", route.Name, route.Event)
	}
	return nil
}

// ServeHTTP serves the API. A caller who is signed in at the console is passed in
// this process by identity.NewContext; from the network only the Authorization
// header counts, and cookies are not looked at.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := checkTarget(r); err != nil {
		httpapi.WriteError(w, r, err)
		return
	}
	g.mux.ServeHTTP(w, r)
}

// call is one request on its way through the gate.
type call struct {
	*http.Request
	route     *Route
	names     map[string]string // the validated values of the pattern's wildcards
	query     url.Values
	object    rbac.Object
	org       rbac.Org // of the object, as far as there is one
	log       string   // the audit log of the call: the organization's, or the site's
	principal identity.Principal
	console   bool // the caller is signed in at the console, which asks in this process
	snapshot  *rbac.Snapshot
	body      []byte // the decoded body, once a decision has read it
	bodyRead  bool
	lease     string            // the state service's lease token
	renamed   rbac.Object       // what a rename makes of object
	granted   []string          // see assertion.Caller
	rule      string            // what allowed the call
	details   map[string]string // facts for the audit record
	ref       audit.Ref
}

// serve is the request path.
func (g *Gate) serve(w http.ResponseWriter, r *http.Request, route *Route) error {
	c, err := g.match(r, route)
	if err != nil {
		return err
	}
	if err := g.authenticate(c); err != nil {
		return g.refuse(c, err)
	}
	if err := g.authorize(c); err != nil {
		return g.refuse(c, err)
	}
	if err := g.record(c); err != nil {
		return err
	}
	if route.Answer != nil {
		return route.Answer(g, w, c)
	}
	return g.forward(w, c)
}

// match validates the names in the path and the parameters that the route knows.
func (g *Gate) match(r *http.Request, route *Route) (*call, error) {
	c := &call{Request: r, route: route, names: map[string]string{}, log: audit.Site, snapshot: g.Engine.Snapshot(), details: map[string]string{}}
	for rest := route.Pattern; ; {
		_, after, found := strings.Cut(rest, "{")
		if !found {
			break
		}
		name, tail, _ := strings.Cut(after, "}")
		c.names[name], rest = r.PathValue(name), tail
	}
	if version, ok := c.names["version"]; ok && strings.Trim(version, "0123456789") != "" {
		return nil, errs.Errorf(errs.Invalid, "%q is not a version, versions are positive numbers", version)
	}
	if name, ok := c.names["org"]; ok {
		c.object = rbac.Object{Organization: name}
		if stack := c.names["stack"]; stack != "" {
			c.object.Project, c.object.Stack = c.names["project"], stack
		}
		if org, known := c.snapshot.Organization(name); known {
			c.org, c.object.Organization, c.log = org, org.Login, org.ID
		}
	}
	var err error
	c.query, err = query(r, route.Query)
	return c, err
}

// authenticate finds out who is calling. Exactly one credential counts, and only of
// the kind that the route takes.
func (g *Gate) authenticate(c *call) error {
	if c.route.Permission == anyone {
		return nil
	}
	if principal, ok := identity.FromContext(c.Context()); ok && c.route.Permission != lease {
		c.principal, c.console = principal, true
		return nil
	}
	values := c.Header.Values("Authorization")
	if len(values) != 1 {
		return refusal(errs.Unauthenticated, "no_credential", "send exactly one Authorization header, see `pulumi login`")
	}
	scheme, credential, _ := strings.Cut(values[0], " ")
	switch {
	case c.route.Permission == lease && scheme == "update-token":
		return g.authenticateLease(c, credential)
	case c.route.Permission == lease && strings.HasPrefix(c.route.Name, "RenewUpdateLease") && (scheme == "token" || scheme == "Bearer"):
		return g.authenticateOldRenewal(c, credential)
	case c.route.Permission == lease:
		return refusal(errs.Forbidden, "not_an_update_token", "this call takes the token of a running update, not an access token")
	case scheme == "update-token":
		return refusal(errs.Forbidden, "update_token_elsewhere", "the token of an update is good for the calls of that update only, use an access token")
	case scheme != "token" && scheme != "Bearer":
		return refusal(errs.Unauthenticated, "unknown_scheme", "send an access token as `Authorization: token …`, see `pulumi login`")
	}
	var err error
	c.principal, err = g.Directory.AuthenticateToken(c.Context(), credential)
	return err
}

// authenticateLease opens a sealed update token. Whatever is wrong with it is 403:
// after a 401 the CLI would tell its user to log in, in the middle of an update.
func (g *Gate) authenticateLease(c *call, token string) error {
	t, err := g.openUpdate(token, c)
	if err != nil {
		return refusal(errs.Forbidden, "update_token_refused", "the update token is not good for this update: it has ended, or the token belongs to another one")
	}
	c.lease = t.Lease
	c.principal = identity.Principal{UserID: t.UserID, Login: t.Login, Name: t.Name, TokenID: t.TokenID, TokenName: t.TokenName}
	return nil
}

// authenticateOldRenewal serves clients before API level 5, which renew with their
// access token and send the update token in the body.
func (g *Gate) authenticateOldRenewal(c *call, credential string) error {
	principal, err := g.Directory.AuthenticateToken(c.Context(), credential)
	if err != nil {
		return err
	}
	var body struct {
		Token    string `json:"token"`
		Duration int64  `json:"duration"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	if err := g.authenticateLease(c, body.Token); err != nil || c.principal.UserID != principal.UserID {
		return refusal(errs.Forbidden, "update_token_refused", "the update token in the body is not good for this update")
	}
	c.body = fmt.Appendf(nil, `{"token":"","duration":%d}`, body.Duration)
	return nil
}

// authorize decides whether the caller may do what the route, and where it matters
// the body, asks for.
func (g *Gate) authorize(c *call) error {
	if c.route.Permission == anyone {
		return nil
	}
	if err := c.snapshot.Err(); err != nil {
		return err // rules that may be out of date decide nothing
	}
	switch c.route.Permission {
	case self:
		return nil
	case site:
		if !c.principal.SiteAdmin {
			return refusal(errs.Forbidden, "not_site_admin", "this is for the site administrators, ask one of them")
		}
		c.rule = "site administrator"
		return nil
	case lease:
		return g.authorizeLease(c)
	}
	err := c.need(c.route.Permission, c.object)
	if !errors.Is(err, errs.NotFound) {
		if err := g.requireSSO(c, c.org); err != nil {
			return err
		}
	}
	if err != nil || c.route.Decide == nil {
		return err
	}
	return c.route.Decide(c)
}

// requireSSO refuses members of an organization with single sign-on who have not
// signed in through it lately. The 401 has the CLI print where to do so. It is asked
// of those only who may know of the organization; a running update goes on.
func (g *Gate) requireSSO(c *call, org rbac.Org) error {
	if !org.SSO {
		return nil
	}
	state, err := g.Directory.SSO(c.Context(), org.ID, c.principal.UserID)
	if err != nil || state == identity.SSOAlive {
		return err
	}
	reason, text := "saml_reauth_required", "your single sign-on for organization "+org.Login+" has run out, sign in again"
	if state == identity.SSONever {
		reason, text = "saml_login_required", "organization "+org.Login+" asks its members to sign in through its single sign-on"
	}
	return httpapi.Problems(refusal(errs.Unauthenticated, reason, text),
		httpapi.Problem{Resource: "organization", Attribute: org.Login, ErrorType: reason})
}

// authorizeLease lets a running update go on: its token stands for the rights that
// were checked at its start, so that no acknowledged work is lost when they change.
// Only renewal asks again, and ends the update of a user who is gone or shut out.
func (g *Gate) authorizeLease(c *call) error {
	c.rule = "the token of update " + c.names["update"]
	if !strings.HasPrefix(c.route.Name, "RenewUpdateLease") {
		return nil
	}
	user, err := g.Directory.User(c.Context(), c.principal.UserID)
	switch {
	case errors.Is(err, errs.NotFound) || err == nil && !user.Disabled.IsZero():
		return refusal(errs.Forbidden, "user_disabled", "the update cannot go on: its user has been disabled")
	case err != nil:
		return err
	}
	if !c.snapshot.Decide(c.principal.UserID, "stack:read", c.object).Allow {
		return refusal(errs.Forbidden, "access_removed", "the update cannot go on: its user may not read the stack any more")
	}
	return nil
}

// need decides one permission on one object.
func (c *call) need(permission rbac.Permission, object rbac.Object) error {
	decision := c.snapshot.Decide(c.principal.UserID, permission, object)
	switch {
	case decision.Allow:
		c.rule = decision.Rule
		return nil
	case !decision.Visible:
		return &refused{cause: notFound(object), reason: "not_visible", permission: permission}
	}
	return &refused{permission: permission, reason: "permission_missing", cause: errs.Errorf(errs.Forbidden,
		"you need the permission %s on %s; ask an administrator of organization %s for it", permission, objectName(object), object.Organization)}
}

// notFound is the one answer for what does not exist and for what the caller may
// not know to exist. The state service words it alike.
func notFound(object rbac.Object) error {
	if object.Stack == "" {
		return errs.Errorf(errs.NotFound, "organization %q not found", object.Organization)
	}
	return errs.Errorf(errs.NotFound, "stack %s not found", objectName(object))
}

func objectName(object rbac.Object) string {
	if object.Stack == "" {
		return object.Organization
	}
	return object.Organization + "/" + object.Project + "/" + object.Stack
}

// decodeBody reads the body, within the route's limit, and decodes it. What is
// forwarded afterwards are exactly the bytes that were decided on.
func (c *call) decodeBody(v any) error {
	if !c.bodyRead {
		body, err := httpapi.ReadBody(c.Request, c.route.Limit)
		if err != nil {
			return err
		}
		c.body, c.bodyRead = body, true
	}
	return httpapi.Decode(c.body, v)
}

// reader returns the body to forward, bounded and gunzipped.
func (c *call) reader() (io.ReadCloser, int64, error) {
	if c.bodyRead {
		return io.NopCloser(strings.NewReader(string(c.body))), int64(len(c.body)), nil
	}
	if c.route.Limit == (httpapi.Limit{}) || c.Body == nil {
		return http.NoBody, 0, nil
	}
	body, err := httpapi.Body(c.Request, c.route.Limit)
	if err != nil {
		return nil, 0, err
	}
	length := c.ContentLength
	if c.Header.Get("Content-Encoding") != "" {
		length = -1
	}
	return body, length, nil
}

// caller is what the state service is told about the principal.
func (c *call) caller() assertion.Caller {
	return assertion.Caller{ID: c.principal.UserID, Login: c.principal.Login, Name: c.principal.Name, Token: c.principal.TokenName, Granted: c.granted}
}

// detached returns a context that the client's going away does not end: what has
// begun is recorded to its end.
func (c *call) detached() context.Context { return context.WithoutCancel(c.Context()) }
