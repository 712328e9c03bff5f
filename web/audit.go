package web

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
)

// auditPage is a part of an organization's audit log. All that selects it is in the
// page's address.
type auditPage struct {
	Path                  string
	User, Event, From, To string
	Filtered              bool
	Entries               []auditRow
	Older, Newest         string // paths
	Problem               string
}

type auditRow struct {
	Time                       time.Time
	Event, Description, Object string
	Who, Login, By             string // By is the token or way behind the actor
	Address, Agent, RequestID  string
	Denied                     bool
	Rule                       string
	Outcome                    result
	Status                     int
	Details                    []pair
}

// audit shows the audit log of an organization, newest first.
func (c *Console) audit(w http.ResponseWriter, v *visit) error {
	n, err := v.names()
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	p := auditPage{Path: n.Path("settings", "audit"), User: strings.TrimSpace(q.Get("user")), Event: strings.TrimSpace(q.Get("event")), From: q.Get("from"), To: q.Get("to")}
	p.Filtered = p.User+p.Event+p.From+p.To != ""
	query, err := p.query(q.Get("after"))
	status := http.StatusOK
	if err != nil {
		p.Problem, status = sentence(errs.Public(err)), http.StatusBadRequest
	}
	var list wireAuditList
	err = v.api().get(query, &list, "orgs", n.Organization, "auditlogs", "v2")
	if errs.KindOf(err) == errs.Invalid && p.Filtered {
		p.Problem, status = sentence(errs.Public(err)), http.StatusBadRequest
	} else if err != nil {
		return err
	}
	for i := range list.Events {
		p.Entries = append(p.Entries, viewEntry(&list.Events[i]))
	}
	if list.Next != "" {
		p.Older = p.link(list.Next)
	}
	if q.Get("after") != "" {
		p.Newest = p.link("")
	}
	return c.render(w, v, status, "audit", page{
		Title: "Audit log", Crumbs: crumbs(n), Tabs: v.organizationTabs(n.Organization, "audit"), Body: p,
	})
}

// query returns what to ask the API for. Days are those of UTC, the last one
// included.
func (p *auditPage) query(after string) (url.Values, error) {
	query := url.Values{}
	set := func(name, text string) {
		if text != "" {
			query.Set(name, text)
		}
	}
	set("userFilter", p.User)
	set("eventFilter", p.Event)
	set("continuationToken", after)
	for _, bound := range []struct {
		name, text string
		days       int
	}{{"startTime", p.From, 0}, {"endTime", p.To, 1}} {
		if bound.text == "" {
			continue
		}
		day, err := time.Parse(time.DateOnly, bound.text)
		if err != nil {
			return query, errs.Errorf(errs.Invalid, "write days as year-month-day")
		}
		query.Set(bound.name, strconv.FormatInt(day.AddDate(0, 0, bound.days).Unix(), 10))
	}
	return query, nil
}

// link returns the path of the page with the same filters that begins after cursor.
func (p *auditPage) link(cursor string) string {
	q := url.Values{}
	for name, text := range map[string]string{"user": p.User, "event": p.Event, "from": p.From, "to": p.To, "after": cursor} {
		if text != "" {
			q.Set(name, text)
		}
	}
	if len(q) == 0 {
		return p.Path
	}
	return p.Path + "?" + q.Encode()
}

func viewEntry(e *wireAuditEvent) auditRow {
	row := auditRow{
		Time: seconds(e.Timestamp), Event: e.Event, Description: e.Description, Object: e.Object,
		Who: e.User.Name, Login: e.User.Login, Address: e.Address, Agent: e.UserAgent, RequestID: e.RequestID,
		Denied: e.Decision == "deny" || e.AuthFailure, Rule: e.Rule, Status: e.Status,
	}
	switch {
	case e.TokenName != "":
		row.By = "token " + e.TokenName
	case e.Connector != "":
		row.By = "console"
	}
	if row.Who == "" {
		row.Who = e.User.Login
	}
	if row.Who == "" {
		row.Who = e.ActorName
	}
	switch e.Result {
	case "succeeded":
		row.Outcome = result{"Done", "ok"}
	case "failed":
		row.Outcome = result{"Failed", "bad"}
	case "unknown":
		row.Outcome = result{"No outcome", "quiet"}
	}
	if row.Denied {
		row.Outcome = result{"Refused", "bad"}
	}
	for _, k := range sortedKeys(e.Details) {
		row.Details = append(row.Details, pair{k, e.Details[k]})
	}
	return row
}
