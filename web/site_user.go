package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
)

type siteUser struct {
	ID            string   `json:"id"`
	Login         string   `json:"githubLogin"`
	Name          string   `json:"name"`
	Email         string   `json:"email"`
	EmailVerified bool     `json:"emailVerified"`
	SiteAdmin     bool     `json:"siteAdmin"`
	Disabled      bool     `json:"disabled"`
	DisabledBy    string   `json:"disabledBy"`
	ManagedBy     string   `json:"managedBy"`
	CreatedAt     wireTime `json:"created"`
}

// Created is when the account was made.
func (u siteUser) Created() time.Time { return u.CreatedAt.Time() }

// Path is the page of the account.
func (u siteUser) Path(more ...string) string {
	return stackName{Organization: "site", Project: "users", Stack: u.Login}.Path(more...)
}

// DisabledText says who disabled the account.
func (u siteUser) DisabledText() string {
	by, name, _ := strings.Cut(u.DisabledBy, ":")
	switch by {
	case "admin":
		return "by a site administrator"
	case "scim":
		return "by the provisioning of its organization (SCIM)"
	case "connector":
		return "because " + name + " no longer knows the person"
	}
	return u.DisabledBy
}

type siteUsersPage struct {
	Query string
	Users []siteUser
	Next  string
	Done  string
}

type wireSiteUsers struct {
	Users []siteUser `json:"users"`
	Next  string     `json:"continuationToken"`
}

func (c *Console) siteUsers(w http.ResponseWriter, v *visit) error {
	if err := v.administrators(); err != nil {
		return err
	}
	q := v.r.URL.Query()
	p := siteUsersPage{Query: strings.TrimSpace(q.Get("q")), Done: v.told()}
	query := url.Values{}
	if p.Query != "" {
		query.Set("query", p.Query)
	}
	if after := q.Get("after"); after != "" {
		query.Set("continuationToken", after)
	}
	var list wireSiteUsers
	if err := v.api().get(query, &list, "site", "users"); err != nil {
		return err
	}
	if p.Users = list.Users; list.Next != "" {
		p.Next = "/site/users?" + url.Values{"q": {p.Query}, "after": {list.Next}}.Encode()
	}
	return c.render(w, v, http.StatusOK, "site-users", sitePage("users", "Users", p))
}

// maxUserPages bounds the search for one account among those that are like it.
const maxUserPages = 10

// account finds the account that the page is about.
func (v *visit) siteAccount() (siteUser, error) {
	if err := v.administrators(); err != nil {
		return siteUser{}, err
	}
	login := v.r.PathValue("user")
	if !validName(login) {
		return siteUser{}, errNoPage
	}
	query := url.Values{"query": {login}, "maxResults": {"1000"}}
	for range maxUserPages {
		var list wireSiteUsers
		if err := v.api().get(query, &list, "site", "users"); err != nil {
			return siteUser{}, err
		}
		for _, u := range list.Users {
			if strings.EqualFold(u.Login, login) {
				return u, nil
			}
		}
		if list.Next == "" {
			break
		}
		query.Set("continuationToken", list.Next)
	}
	return siteUser{}, errNoPage
}

type siteUserPage struct {
	User          siteUser
	You           bool
	Done, Problem string
}

func (c *Console) siteUser(w http.ResponseWriter, v *visit) error {
	return c.renderSiteUser(w, v, http.StatusOK, siteUserPage{Done: v.told()})
}

func (c *Console) renderSiteUser(w http.ResponseWriter, v *visit, status int, p siteUserPage) error {
	u, err := v.siteAccount()
	if err != nil {
		return err
	}
	p.User, p.You = u, u.Login == v.who.Login
	return c.render(w, v, status, "site-user", sitePage("users", orElse(u.Name, u.Login), p))
}

// changeSiteUser does one thing to an account.
func (c *Console) changeSiteUser(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	u, err := v.siteAccount()
	if err != nil {
		return err
	}
	changes := map[string]struct {
		in   map[string]bool
		done string
	}{
		"disable": {map[string]bool{"disabled": true}, "disabled"}, "enable": {map[string]bool{"disabled": false}, "enabled"},
		"promote": {map[string]bool{"siteAdmin": true}, "site-admin"}, "demote": {map[string]bool{"siteAdmin": false}, "not-site-admin"},
		"end-sessions": {map[string]bool{"endSessions": true}, "sessions"},
	}
	change, known := changes[form.Get("do")]
	if !known {
		return errs.Errorf(errs.Invalid, "say what is to become of the account")
	}
	err = v.api().call(http.MethodPatch, nil, change.in, nil, "site", "users", u.Login)
	return c.after(w, v, err, u.Path()+"?done="+change.done, func(status int, problem string) error {
		return c.renderSiteUser(w, v, status, siteUserPage{Problem: problem})
	})
}

func (c *Console) deleteSiteUserForm(w http.ResponseWriter, v *visit) error {
	return c.renderDeleteSiteUser(w, v, http.StatusOK, "")
}

func (c *Console) renderDeleteSiteUser(w http.ResponseWriter, v *visit, status int, problem string) error {
	u, err := v.siteAccount()
	if err != nil {
		return err
	}
	return c.render(w, v, status, "site-user-delete", page{Title: "Delete an account", Narrow: true, Body: siteUserPage{User: u, Problem: problem}})
}

func (c *Console) deleteSiteUser(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	u, err := v.siteAccount()
	if err != nil {
		return err
	}
	again := func(status int, problem string) error { return c.renderDeleteSiteUser(w, v, status, problem) }
	if strings.TrimSpace(form.Get("confirm")) != u.Login {
		return again(http.StatusBadRequest, "That is not the login of the account. Nothing is deleted.")
	}
	err = v.api().call(http.MethodDelete, nil, nil, nil, "site", "users", u.Login)
	return c.after(w, v, err, "/site/users?done=user-gone", again)
}
