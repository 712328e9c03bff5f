package web

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// tokenPage is the list of the visitor's access tokens.
type tokenPage struct {
	Filter string // active, expired or all
	Tokens []token
	Next   string // the path of the next page
	Done   bool   // one has just been revoked

	// The form, as it was sent when that failed.
	Description, Days, Date string
	Problem                 string
	Today                   string

	Secret string // the token that has just been made, shown this once
	Nonce  string // of the form: sent again, as by reloading the answer, it makes no second token
}

type token struct {
	ID, Description            string
	Created, LastUsed, Expires time.Time
	Expired                    bool
}

func (c *Console) tokens(w http.ResponseWriter, v *visit) error {
	q := v.r.URL.Query()
	p := tokenPage{Filter: tokenFilter(q.Get("filter")), Days: "30", Done: q.Get("done") == "revoked"}
	return c.renderTokens(w, v, http.StatusOK, p)
}

func tokenFilter(name string) string {
	switch name {
	case "expired", "all":
		return name
	}
	return "active"
}

func (c *Console) renderTokens(w http.ResponseWriter, v *visit, status int, p tokenPage) error {
	query := url.Values{"filter": {p.Filter}}
	if next := v.r.URL.Query().Get("after"); next != "" {
		query.Set("continuationToken", next)
	}
	var list wireTokenList
	if err := v.api().get(query, &list, "user", "tokens"); err != nil {
		return err
	}
	now := c.config.Now()
	p.Today = now.UTC().Format(time.DateOnly)
	p.Nonce = rand.Text()
	for _, t := range list.Tokens {
		p.Tokens = append(p.Tokens, c.token(now, t))
	}
	if list.Next != "" {
		p.Next = "/user/settings/tokens?" + url.Values{"filter": {p.Filter}, "after": {list.Next}}.Encode()
	}
	return c.render(w, v, status, "tokens", page{Title: "Access tokens", Body: p, Tabs: settingsTabs("tokens")})
}

func (c *Console) token(now time.Time, t wireToken) token {
	out := token{ID: t.ID, Description: t.Description, Created: t.Created.Time(), LastUsed: seconds(t.LastUsed), Expires: seconds(t.Expires)}
	out.Expired = !out.Expires.IsZero() && !out.Expires.After(now)
	return out
}

// createToken makes a token and shows it on the answer, which nothing keeps.
func (c *Console) createToken(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p := tokenPage{Filter: "active", Description: strings.TrimSpace(form.Get("description")), Days: form.Get("days"), Date: form.Get("date")}
	expires, err := expiry(c.config.Now(), p.Days, p.Date)
	if err == nil && p.Description == "" {
		err = errs.Errorf(errs.Invalid, "say what the token is for, so that it can be told from others later")
	}
	var created struct {
		Value string `json:"tokenValue"`
	}
	if err == nil {
		in := map[string]any{"description": p.Description, "expires": expires, "nonce": form.Get("nonce")}
		err = v.api().call(http.MethodPost, nil, in, &created, "user", "tokens")
	}
	if errors.Is(err, errs.Conflict) {
		err = errs.Errorf(errs.Conflict, "this form has been sent before, and its token was shown then; if you do not have it, revoke it and make another")
	}
	if kind := errs.KindOf(err); err != nil && (kind == errs.Invalid || kind == errs.Unprocessable || kind == errs.Conflict) {
		p.Problem = sentence(errs.Public(err))
		return c.renderTokens(w, v, httpapi.Status(err), p)
	} else if err != nil {
		return err
	}
	return c.renderTokens(w, v, http.StatusOK, tokenPage{Filter: "active", Days: "30", Secret: created.Value})
}

// expiry returns the Unix time at which a token made now ends, 0 for never.
func expiry(now time.Time, days, date string) (int64, error) {
	switch days {
	case "never":
		return 0, nil
	case "date":
		day, err := time.Parse(time.DateOnly, date)
		if err != nil {
			return 0, errs.Errorf(errs.Invalid, "give the date of expiry as year-month-day")
		}
		// Good through the day that was named.
		end := day.Add(24*time.Hour - time.Second)
		if !end.After(now) {
			return 0, errs.Errorf(errs.Invalid, "the date of expiry is in the past")
		}
		return end.Unix(), nil
	}
	n, err := strconv.Atoi(days)
	if err != nil || n < 1 || n > 730 {
		return 0, errs.Errorf(errs.Invalid, "choose how long the token is good for")
	}
	return now.Add(time.Duration(n) * 24 * time.Hour).Unix(), nil
}

// revokeForm asks before it happens.
func (c *Console) revokeForm(w http.ResponseWriter, v *visit) error {
	t, err := c.findToken(v)
	if err != nil {
		return err
	}
	return c.render(w, v, http.StatusOK, "revoke", page{Title: "Revoke access token", Narrow: true, Body: t})
}

// maxTokenPages bounds the search for one token among a visitor's.
const maxTokenPages = 20

func (c *Console) findToken(v *visit) (token, error) {
	query := url.Values{"filter": {"all"}, "maxResults": {"1000"}}
	for range maxTokenPages {
		var list wireTokenList
		if err := v.api().get(query, &list, "user", "tokens"); err != nil {
			return token{}, err
		}
		for _, t := range list.Tokens {
			if t.ID == v.r.PathValue("id") {
				return c.token(c.config.Now(), t), nil
			}
		}
		if list.Next == "" {
			break
		}
		query.Set("continuationToken", list.Next)
	}
	return token{}, errNoPage
}

func (c *Console) revokeToken(w http.ResponseWriter, v *visit) error {
	if _, err := v.form(w); err != nil {
		return err
	}
	if err := v.api().call(http.MethodDelete, nil, nil, nil, "user", "tokens", v.r.PathValue("id")); err != nil {
		return err
	}
	http.Redirect(w, v.r, "/user/settings/tokens?done=revoked", http.StatusSeeOther)
	return nil
}
