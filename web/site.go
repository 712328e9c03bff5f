package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
)

// siteRoutes are the pages of the installation's administrators. The API knows who is
// one; to anybody else these pages do not exist.
func siteRoutes() []route {
	return []route{
		{"GET", "/site", signedIn, (*Console).site},
		{"GET", "/site/users", signedIn, (*Console).siteUsers},
		{"GET", "/site/users/{user}", signedIn, (*Console).siteUser},
		{"POST", "/site/users/{user}", signedIn, (*Console).changeSiteUser},
		{"GET", "/site/users/{user}/delete", signedIn, (*Console).deleteSiteUserForm},
		{"POST", "/site/users/{user}/delete", signedIn, (*Console).deleteSiteUser},
		{"GET", "/site/organizations", signedIn, (*Console).siteOrganizations},
		{"POST", "/site/organizations/{id}/restore", signedIn, (*Console).restoreOrganization},
		{"GET", "/site/organizations/{id}/purge", signedIn, (*Console).purgeOrganizationForm},
		{"POST", "/site/organizations/{id}/purge", signedIn, (*Console).purgeOrganization},
		{"GET", "/site/connectors", signedIn, (*Console).siteConnectors},
		{"GET", "/site/sign-ins", signedIn, (*Console).siteSignIns},
		{"GET", "/site/mail", signedIn, (*Console).siteMail},
		{"POST", "/site/mail/{id}", signedIn, (*Console).removeMail},
	}
}

func siteTabs(current string) []tab {
	tabs := []tab{{"Overview", "/site", current == "overview"}}
	for _, part := range []tab{{"Users", "users", false}, {"Organizations", "organizations", false}, {"Connectors", "connectors", false}, {"Sign-ins", "sign-ins", false}, {"Mail", "mail", false}} {
		tabs = append(tabs, tab{part.Text, "/site/" + part.Path, current == part.Path})
	}
	return tabs
}

func sitePage(tab, title string, body any) page {
	return page{Title: title, Tabs: siteTabs(tab), Body: body}
}

// administrators refuses everybody else, before anything is asked of the API: these
// pages answer strangers to the administration as if they were not there.
func (v *visit) administrators() error {
	if !v.who.SiteAdmin {
		return errNoPage
	}
	return nil
}

// overview is what a site administrator looks at first.
type overview struct {
	Connectors []connectorRow
	Sick       int64
	Passwords  bool // people can sign in with one
	Mail       wireMail
	Waiting    string // how many mails do
	Refused    []refusedSignIn
}

func (c *Console) site(w http.ResponseWriter, v *visit) error {
	if err := v.administrators(); err != nil {
		return err
	}
	p := overview{Passwords: c.config.Email.Settings().PasswordLogin}
	var err error
	if p.Connectors, err = c.connectors(v); err != nil {
		return err
	}
	for _, one := range p.Connectors {
		if !one.Healthy {
			p.Sick++
		}
	}
	if err := v.api().get(url.Values{"maxResults": {"50"}}, &p.Mail, "site", "mail"); err != nil {
		return err
	}
	if p.Waiting = count(int64(len(p.Mail.Mails)), "mail"); p.Mail.Next != "" {
		p.Waiting = "more than " + p.Waiting
	}
	var list wireSignIns
	if err := v.api().get(url.Values{"maxResults": {"5"}}, &list, "site", "sign-ins"); err != nil {
		return err
	}
	p.Refused = viewSignIns(list.SignIns)
	return c.render(w, v, http.StatusOK, "site", sitePage("overview", "Site", p))
}

// connectorRow is a connector of the installation, and whether it answers now.
type connectorRow struct {
	wireHealth
	Callback string
}

type connectorsPage struct{ Connectors []connectorRow }

func (c *Console) connectors(v *visit) ([]connectorRow, error) {
	var list struct {
		Connectors []wireHealth `json:"connectors"`
	}
	if err := v.api().get(nil, &list, "site", "connectors"); err != nil {
		return nil, err
	}
	var rows []connectorRow
	for _, one := range list.Connectors {
		one.Problem = sentence(one.Problem)
		rows = append(rows, connectorRow{one, c.url.JoinPath("signin", "with", one.Name, "callback").String()})
	}
	return rows, nil
}

// siteConnectors asks every provider whether it is there.
func (c *Console) siteConnectors(w http.ResponseWriter, v *visit) error {
	if err := v.administrators(); err != nil {
		return err
	}
	rows, err := c.connectors(v)
	if err != nil {
		return err
	}
	return c.render(w, v, http.StatusOK, "site-connectors", sitePage("connectors", "Connectors", connectorsPage{rows}))
}

// refusedSignIn is a sign-in that did not work, and what to do about it.
type refusedSignIn struct {
	Time                           time.Time
	Who, Connector                 string
	Reason, Detail, Address, Agent string
	RequestID                      string
	Means, Remedy                  string
}

type signInsPage struct {
	Refused       []refusedSignIn
	Older, Newest string
}

func (c *Console) siteSignIns(w http.ResponseWriter, v *visit) error {
	if err := v.administrators(); err != nil {
		return err
	}
	query, after := url.Values{}, v.r.URL.Query().Get("after")
	var p signInsPage
	if after != "" {
		query.Set("continuationToken", after)
		p.Newest = "/site/sign-ins"
	}
	var list wireSignIns
	if err := v.api().get(query, &list, "site", "sign-ins"); err != nil {
		return err
	}
	p.Refused = viewSignIns(list.SignIns)
	if list.Next != "" {
		p.Older = "/site/sign-ins?" + url.Values{"after": {list.Next}}.Encode()
	}
	return c.render(w, v, http.StatusOK, "site-refused", sitePage("sign-ins", "Refused sign-ins", p))
}

func viewSignIns(events []wireAuditEvent) []refusedSignIn {
	var rows []refusedSignIn
	for _, e := range events {
		row := refusedSignIn{
			Time: seconds(e.Timestamp), Who: e.User.Login, Connector: e.Connector, Reason: e.Rule, Detail: e.Details["detail"],
			Address: e.Address, Agent: browser(e.UserAgent), RequestID: e.RequestID,
		}
		if row.Who == "" {
			row.Who = strings.TrimPrefix(e.Object, "user:")
		}
		if row.Who == "user" {
			row.Who = ""
		}
		if row.Connector == "" {
			row.Connector = e.Details["connector"]
		}
		if strings.HasPrefix(row.Connector, "saml:") {
			row.Connector = "single sign-on"
		}
		row.Means, row.Remedy = explain(e.Rule)
		rows = append(rows, row)
	}
	return rows
}

type wireMail struct {
	Configured  bool          `json:"configured"`
	LastSuccess int64         `json:"lastSuccess"`
	LastFailure int64         `json:"lastFailure"`
	Problem     string        `json:"problem"`
	Mails       []waitingMail `json:"mails"`
	Next        string        `json:"continuationToken"`
}

type waitingMail struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	To       string `json:"to"`
	Subject  string `json:"subject"`
	Link     string `json:"link"`
	Error    string `json:"error"`
	Created  int64  `json:"created"`
	Expires  int64  `json:"expires"`
	NextTry  int64  `json:"next"`
	FailedAt int64  `json:"failed"`
}

// Times of a mail and of the server, as pages show them.
func (m waitingMail) Written() time.Time { return seconds(m.Created) }

// Ends is when the link in it stops working.
func (m waitingMail) Ends() time.Time { return seconds(m.Expires) }

// Tries is when it is tried again.
func (m waitingMail) Tries() time.Time { return seconds(m.NextTry) }

// Failed is when it was given up.
func (m waitingMail) Failed() time.Time { return seconds(m.FailedAt) }

// Sent is when a mail was delivered last.
func (m wireMail) Sent() time.Time { return seconds(m.LastSuccess) }

// Failed is when one could not be.
func (m wireMail) Failed() time.Time { return seconds(m.LastFailure) }

// Sick reports whether delivery fails now.
func (m wireMail) Sick() bool { return m.Configured && m.LastFailure > m.LastSuccess }

type mailPage struct {
	wireMail
	Done, Problem string
	More          string
}

func (c *Console) siteMail(w http.ResponseWriter, v *visit) error {
	if err := v.administrators(); err != nil {
		return err
	}
	query := url.Values{}
	if after := v.r.URL.Query().Get("after"); after != "" {
		query.Set("continuationToken", after)
	}
	p := mailPage{Done: v.told()}
	if err := v.api().get(query, &p.wireMail, "site", "mail"); err != nil {
		return err
	}
	if p.Next != "" {
		p.More = "/site/mail?" + url.Values{"after": {p.Next}}.Encode()
	}
	p.Mails = slices.DeleteFunc(p.Mails, func(m waitingMail) bool { return m.ID == "" })
	return c.render(w, v, http.StatusOK, "site-mail", sitePage("mail", "Mail", p))
}

func (c *Console) removeMail(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if err := v.administrators(); err != nil {
		return err
	}
	if form.Get("sure") != "yes" {
		return errs.Errorf(errs.Invalid, "nothing is removed: say on the page that the mail is not needed")
	}
	if err := v.api().call(http.MethodDelete, nil, nil, nil, "site", "mail", v.r.PathValue("id")); err != nil {
		return err
	}
	http.Redirect(w, v.r, "/site/mail?done=mail-gone", http.StatusSeeOther)
	return nil
}
