package proxy

import (
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/rbac"
)

// What the administrators of the installation do. The Pulumi Service has no such
// calls: all of them are ours.

// siteUser is a user in the site administrators' list.
type siteUser struct {
	ID string `json:"id"`
	userInfo
	EmailVerified bool      `json:"emailVerified"`
	SiteAdmin     bool      `json:"siteAdmin"`
	Disabled      bool      `json:"disabled"`
	DisabledBy    string    `json:"disabledBy,omitempty"`
	ManagedBy     string    `json:"managedBy,omitempty"` // the organization's name
	Created       time.Time `json:"created"`
}

func (g *Gate) siteUsers(w http.ResponseWriter, c *call) error {
	limit, err := c.maxResults(100, 1000)
	if err != nil {
		return err
	}
	users, next, err := g.Directory.Users(c.Context(), identity.UserQuery{Text: c.query.Get("query"), Cursor: c.query.Get("continuationToken"), Limit: limit})
	if err != nil {
		return err
	}
	names := map[string]string{}
	for _, org := range c.snapshot.All() {
		names[org.ID] = org.Login
	}
	list := make([]siteUser, 0, len(users))
	for _, u := range users {
		list = append(list, siteUser{
			ID: u.ID, userInfo: userInfo{u.Name, u.Login, u.AvatarURL, u.Email}, EmailVerified: u.EmailVerified, SiteAdmin: u.SiteAdmin,
			Disabled: !u.Disabled.IsZero(), DisabledBy: u.DisabledBy, ManagedBy: names[u.ManagedBy], Created: u.Created,
		})
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Users             []siteUser `json:"users"`
		ContinuationToken string     `json:"continuationToken,omitempty"`
	}{list, next})
	return nil
}

// updateSiteUser does what the body asks for, one thing at a time.
func (g *Gate) updateSiteUser(w http.ResponseWriter, c *call) error {
	user, err := g.Directory.UserByLogin(c.Context(), c.names["user"])
	if err != nil {
		return err
	}
	var body struct {
		Disabled    *bool `json:"disabled"`
		SiteAdmin   *bool `json:"siteAdmin"`
		EndSessions bool  `json:"endSessions"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	ctx := c.detached()
	switch {
	case body.Disabled != nil && *body.Disabled:
		err = g.Directory.Disable(ctx, c.principal, user.ID)
	case body.Disabled != nil:
		err = g.Directory.Enable(ctx, c.principal, user.ID)
	case body.SiteAdmin != nil:
		err = g.Directory.SetSiteAdmin(ctx, c.principal, user.ID, *body.SiteAdmin)
	case body.EndSessions:
		err = g.Directory.EndSessions(ctx, c.principal, user.ID)
	default:
		err = errs.Errorf(errs.Invalid, "the body asks for nothing: send disabled, siteAdmin or endSessions")
	}
	return noContent(w, err)
}

func (g *Gate) deleteSiteUser(w http.ResponseWriter, c *call) error {
	user, err := g.Directory.UserByLogin(c.Context(), c.names["user"])
	if err != nil {
		return err
	}
	return noContent(w, g.Directory.DeleteUser(c.detached(), c.principal, user.ID))
}

type siteOrganization struct {
	ID string `json:"id"`
	organizationSummary
	Kind      string     `json:"kind"`
	Backing   string     `json:"backing,omitempty"`
	Connector string     `json:"connector,omitempty"`
	Members   int64      `json:"members"`
	Created   time.Time  `json:"created"`
	Deleted   *time.Time `json:"deleted,omitempty"`
}

func (g *Gate) siteOrganizations(w http.ResponseWriter, c *call) error {
	limit, err := c.maxResults(100, 1000)
	if err != nil {
		return err
	}
	found, next, err := g.Directory.AllOrganizations(c.Context(), identity.OrganizationQuery{
		Text: c.query.Get("query"), Deleted: c.query.Get("deleted") == "true", Cursor: c.query.Get("continuationToken"), Limit: limit})
	if err != nil {
		return err
	}
	list := make([]siteOrganization, 0, len(found))
	for _, o := range found {
		line := siteOrganization{
			ID: o.Organization.ID, organizationSummary: organizationSummary{Name: o.Organization.Name, Login: o.Organization.Login},
			Kind: string(o.Organization.Kind), Backing: o.Organization.Backing.Path, Connector: o.Organization.Connector,
			Members: o.Members, Created: o.Organization.Created,
		}
		if !o.Deleted.IsZero() {
			line.Deleted = &o.Deleted
		}
		list = append(list, line)
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Organizations     []siteOrganization `json:"organizations"`
		ContinuationToken string             `json:"continuationToken,omitempty"`
	}{list, next})
	return nil
}

func (g *Gate) restoreOrganization(w http.ResponseWriter, c *call) error {
	return noContent(w, g.Directory.RestoreOrganization(c.detached(), c.principal, c.names["id"]))
}

// purgeOrganization deletes the stacks of a deleted organization, with their state and
// history, and then what the directory keeps of it. It can be repeated when it fails.
func (g *Gate) purgeOrganization(w http.ResponseWriter, c *call) error {
	org, err := g.deletedOrganization(c, c.names["id"])
	if err != nil {
		return err
	}
	key := rbac.Org{ID: org.ID, Login: org.Key, Key: org.Key}
	for {
		page, err := g.stackPage(c, key, "")
		if err != nil {
			return err
		}
		for _, stack := range page.Stacks {
			path := "/api/stacks/" + org.Key + "/" + stack.Project + "/" + stack.Stack
			if err := g.ask(c, &answer{hold: true}, http.MethodDelete, path, url.Values{"force": {"true"}}, http.NoBody, 0); err != nil {
				return err
			}
		}
		if len(page.Stacks) == 0 {
			break
		}
	}
	return noContent(w, g.Directory.PurgeOrganization(c.detached(), c.principal, org.ID))
}

func (g *Gate) deletedOrganization(c *call, id string) (identity.Organization, error) {
	q := identity.OrganizationQuery{Deleted: true, Limit: 1000}
	for {
		found, next, err := g.Directory.AllOrganizations(c.Context(), q)
		if err != nil {
			return identity.Organization{}, err
		}
		for _, o := range found {
			if o.Organization.ID == id {
				return o.Organization, nil
			}
		}
		if q.Cursor = next; next == "" {
			return identity.Organization{}, errs.Errorf(errs.NotFound, "there is no such deleted organization")
		}
	}
}

// connectorHealth is a connector, and whether its provider answers now.
type connectorHealth struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Title   string `json:"title"`
	Issuer  string `json:"issuer"`
	SignUp  bool   `json:"signUp"`
	Healthy bool   `json:"healthy"`
	Problem string `json:"problem,omitempty"`
}

// siteConnectors asks all providers at once.
func (g *Gate) siteConnectors(w http.ResponseWriter, c *call) error {
	connectors := g.Connectors.Site()
	list := make([]connectorHealth, len(connectors))
	var asked sync.WaitGroup
	for i, connector := range connectors {
		asked.Go(func() { list[i] = probe(c, connector) })
	}
	asked.Wait()
	httpapi.WriteJSON(w, http.StatusOK, map[string]any{"connectors": list})
	return nil
}

func probe(c *call, connector identity.Connector) connectorHealth {
	info := connector.Info()
	health := connectorHealth{Name: info.Name, Kind: string(info.Kind), Title: info.Title, Issuer: info.Issuer, SignUp: info.SignUp, Healthy: true}
	if err := connector.Probe(c.Context()); err != nil {
		health.Healthy, health.Problem = false, httpapi.Clean(err.Error(), 500)
	}
	return health
}

// siteSignIns lists the last refused sign-ins with their reasons.
func (g *Gate) siteSignIns(w http.ResponseWriter, c *call) error { return g.signIns(w, c, audit.Site) }

// organizationSignIns lists those of the organization's own connector.
func (g *Gate) organizationSignIns(w http.ResponseWriter, c *call) error {
	return g.signIns(w, c, c.log)
}

func (g *Gate) signIns(w http.ResponseWriter, c *call, log string) error {
	limit, err := c.maxResults(50, 200)
	if err != nil {
		return err
	}
	page, err := g.Audit.List(c.Context(), log, audit.Query{Event: "user-login-failed", Cursor: c.query.Get("continuationToken"), Limit: limit})
	if err != nil {
		return err
	}
	events := make([]auditEvent, 0, len(page.Entries))
	for _, entry := range page.Entries {
		events = append(events, auditEventOf(entry))
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		SignIns           []auditEvent `json:"signIns"`
		ContinuationToken string       `json:"continuationToken,omitempty"`
	}{events, page.Next})
	return nil
}

// waitingMail is a mail that has not been delivered. Its times are Unix seconds, 0 for
// none.
type waitingMail struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	To      string `json:"to"`
	Subject string `json:"subject"`
	Link    string `json:"link,omitempty"`
	Error   string `json:"error,omitempty"`
	Created int64  `json:"created"`
	Expires int64  `json:"expires"`
	Next    int64  `json:"next"`
	Failed  int64  `json:"failed"`
}

// siteMail lists mails that wait or could not be delivered. Where no mail server is
// set up, the links in them are shown, to be handed over by other means.
func (g *Gate) siteMail(w http.ResponseWriter, c *call) error {
	limit, err := c.maxResults(50, 200)
	if err != nil {
		return err
	}
	waiting, next, err := g.Mail.Undelivered(c.Context(), c.query.Get("continuationToken"), limit)
	if err != nil {
		return err
	}
	health, err := g.Mail.Health(c.Context())
	if err != nil {
		return err
	}
	list := make([]waitingMail, 0, len(waiting))
	for _, m := range waiting {
		list = append(list, waitingMail{
			ID: m.ID, Kind: m.Kind, To: m.To, Subject: m.Subject, Link: m.Link, Error: m.Error,
			Created: unix(m.Created), Expires: unix(m.Expires), Next: unix(m.Next), Failed: unix(m.Failed),
		})
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Configured        bool          `json:"configured"`
		LastSuccess       int64         `json:"lastSuccess"`
		LastFailure       int64         `json:"lastFailure"`
		Problem           string        `json:"problem,omitempty"`
		Mails             []waitingMail `json:"mails"`
		ContinuationToken string        `json:"continuationToken,omitempty"`
	}{health.Configured, unix(health.LastSuccess), unix(health.LastFailure), health.Error, list, next})
	return nil
}

func (g *Gate) removeMail(w http.ResponseWriter, c *call) error {
	event := c.principal.Event(audit.Event{Name: "mail-removed", Object: "mail:" + c.names["id"], Description: "Removed a mail that waited to be delivered", Decision: audit.Allow, Rule: c.rule})
	if _, err := g.Audit.AppendDone(c.detached(), audit.Site, event, audit.Outcome{Result: audit.Succeeded}); err != nil {
		return err
	}
	return noContent(w, g.Mail.Remove(c.detached(), c.names["id"]))
}
