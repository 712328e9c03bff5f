package web

import (
	"net/http"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
)

type sessionsPage struct {
	Sessions []sessionRow
	Ended    bool
}

type sessionRow struct {
	ID, Browser, Agent, Address string
	Created, LastSeen           time.Time
	Here                        bool // the one that this page is read in
}

// sessions lists where the visitor is signed in.
func (c *Console) sessions(w http.ResponseWriter, v *visit) error {
	sessions, err := c.config.Directory.Sessions(v.r.Context(), v.who.UserID)
	if err != nil {
		return err
	}
	p := sessionsPage{Ended: v.r.URL.Query().Get("done") == "ended"}
	for _, s := range sessions {
		p.Sessions = append(p.Sessions, sessionRow{
			ID: s.ID, Browser: browser(s.UserAgent), Agent: s.UserAgent, Address: s.Address, Created: s.Created, LastSeen: s.LastSeen,
			Here: s.ID == v.who.SessionID,
		})
	}
	return c.render(w, v, http.StatusOK, "sessions", page{Title: "Sessions", Tabs: settingsTabs("sessions"), Body: p})
}

// endSession ends one of the visitor's sessions, or all of them, this one included.
func (c *Console) endSession(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	ctx, id := v.r.Context(), form.Get("session")
	switch id {
	case "all":
		err = c.config.Directory.EndSessions(ctx, v.who, v.who.UserID)
	case "":
		err = errs.Errorf(errs.Invalid, "say which session is to end")
	default:
		err = c.config.Directory.RevokeSession(ctx, v.who, id)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, v.r, "/user/settings/sessions?done=ended", http.StatusSeeOther)
	return nil
}
