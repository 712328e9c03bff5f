package proxy

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// auditQuery are the parameters of the audit lists: the documented names, and those
// that the CLI sends instead.
var auditQuery = []string{"startTime", "endTime", "eventFilter", "eventType", "userFilter", "user", "object", "result", "continuationToken", "maxResults"}

// auditEvent is one event in the shape of the Pulumi Service, with what it leaves out.
type auditEvent struct {
	Timestamp   int64    `json:"timestamp"`
	SourceIP    string   `json:"sourceIP"`
	Event       string   `json:"event"`
	Description string   `json:"description"`
	User        userInfo `json:"user"`
	TokenID     string   `json:"tokenID,omitempty"`
	TokenName   string   `json:"tokenName,omitempty"`
	OrgAdmin    bool     `json:"reqOrgAdmin,omitzero"`
	StackAdmin  bool     `json:"reqStackAdmin,omitzero"`
	AuthFailure bool     `json:"authFailure,omitzero"`

	// Ours.
	Index     int64             `json:"index"`
	Object    string            `json:"object,omitempty"`
	Decision  string            `json:"decision,omitempty"`
	Rule      string            `json:"rule,omitempty"`
	Result    string            `json:"result"`
	Status    int               `json:"status,omitzero"`
	RequestID string            `json:"requestID,omitempty"`
	SessionID string            `json:"sessionID,omitempty"`
	Connector string            `json:"connector,omitempty"`
	UserAgent string            `json:"userAgent,omitempty"`
	Details   map[string]string `json:"details,omitempty"`
	Before    map[string]string `json:"before,omitempty"`
	After     map[string]string `json:"after,omitempty"`
}

// auditLogsV1 lists the organization's log. In this version startTime is the upper
// bound, exclusive, and the default is now.
func (g *Gate) auditLogsV1(w http.ResponseWriter, c *call) error {
	return g.auditLogs(w, c, "endTime", "startTime")
}

// auditLogsV2 lists it with startTime as the lower and endTime as the upper bound.
func (g *Gate) auditLogsV2(w http.ResponseWriter, c *call) error {
	return g.auditLogs(w, c, "startTime", "endTime")
}

func (g *Gate) auditLogs(w http.ResponseWriter, c *call, lower, upper string) error {
	limit, err := c.maxResults(100, 1000)
	if err != nil {
		return err
	}
	q := audit.Query{
		Event: either(c.query, "eventFilter", "eventType"), User: either(c.query, "userFilter", "user"),
		Object: c.query.Get("object"), Result: audit.Result(c.query.Get("result")),
		Cursor: c.query.Get("continuationToken"), Limit: limit,
	}
	if q.From, err = moment(c.query, lower); err != nil {
		return err
	}
	if q.To, err = moment(c.query, upper); err != nil {
		return err
	}
	page, err := g.Audit.List(c.Context(), c.log, q)
	if err != nil {
		return err
	}
	events := make([]auditEvent, 0, len(page.Entries))
	for _, entry := range page.Entries {
		events = append(events, auditEventOf(entry))
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Events            []auditEvent `json:"auditLogEvents"`
		ContinuationToken string       `json:"continuationToken,omitempty"`
	}{events, page.Next})
	return nil
}

func auditEventOf(entry audit.Entry) auditEvent {
	e := entry.Event
	kind, _ := audit.Describe(e.Name)
	return auditEvent{
		Timestamp: entry.Time.Unix(), SourceIP: entry.Address, Event: e.Name, Description: e.Description,
		User:    userInfo{Name: e.Actor.Name, Login: e.Actor.Login},
		TokenID: e.TokenID, TokenName: e.TokenName,
		OrgAdmin: kind.OrganizationAdmin, StackAdmin: kind.StackAdmin, AuthFailure: kind.AuthenticationFailure,
		Index: entry.Index, Object: e.Object, Decision: string(e.Decision), Rule: e.Rule,
		Result: string(entry.Outcome.Result), Status: entry.Outcome.Status,
		RequestID: entry.RequestID, SessionID: e.SessionID, Connector: e.Connector, UserAgent: entry.UserAgent,
		Details: e.Details, Before: e.Before, After: e.After,
	}
}

func either(q url.Values, names ...string) string {
	for _, name := range names {
		if value := q.Get(name); value != "" {
			return value
		}
	}
	return ""
}

// moment reads a time that clients send as Unix seconds or in RFC 3339.
func moment(q url.Values, name string) (time.Time, error) {
	text := q.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, errs.Errorf(errs.Invalid, "%s is Unix seconds or an RFC 3339 time such as 2026-01-31T12:00:00Z", name)
}
