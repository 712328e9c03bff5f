package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

type siteOrganization struct {
	ID        string   `json:"id"`
	Login     string   `json:"githubLogin"`
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`
	Backing   string   `json:"backing"`
	Connector string   `json:"connector"`
	Members   int64    `json:"members"`
	CreatedAt wireTime `json:"created"`
	DeletedAt wireTime `json:"deleted"`
}

// Created is when it was made.
func (o siteOrganization) Created() time.Time { return o.CreatedAt.Time() }

// Deleted is when it was deleted, zero for one that was not.
func (o siteOrganization) Deleted() time.Time { return o.DeletedAt.Time() }

// Path is what a site administrator can do with it.
func (o siteOrganization) Path(more ...string) string {
	return stackName{Organization: "site", Project: "organizations", Stack: o.ID}.Path(more...)
}

// KindText says where its members come from.
func (o siteOrganization) KindText() string {
	switch o.Kind {
	case "github":
		return "GitHub " + o.Backing
	case "gitlab":
		return "GitLab " + o.Backing
	case "saml":
		return "single sign-on"
	}
	return "plain"
}

type siteOrganizationsPage struct {
	Query         string
	Deleted       bool
	Organizations []siteOrganization
	Next          string
	Done, Problem string
	Founds        bool
}

type wireSiteOrganizations struct {
	Organizations []siteOrganization `json:"organizations"`
	Next          string             `json:"continuationToken"`
}

func (c *Console) siteOrganizations(w http.ResponseWriter, v *visit) error {
	q := v.r.URL.Query()
	return c.renderSiteOrganizations(w, v, http.StatusOK, siteOrganizationsPage{
		Query: strings.TrimSpace(q.Get("q")), Deleted: q.Get("show") == "deleted", Done: v.told(),
	})
}

func (c *Console) renderSiteOrganizations(w http.ResponseWriter, v *visit, status int, p siteOrganizationsPage) error {
	if err := v.administrators(); err != nil {
		return err
	}
	query, link := url.Values{}, url.Values{}
	if p.Query != "" {
		query.Set("query", p.Query)
		link.Set("q", p.Query)
	}
	if p.Deleted {
		query.Set("deleted", "true")
		link.Set("show", "deleted")
	}
	if after := v.r.URL.Query().Get("after"); after != "" {
		query.Set("continuationToken", after)
	}
	var list wireSiteOrganizations
	if err := v.api().get(query, &list, "site", "organizations"); err != nil {
		return err
	}
	if p.Organizations, p.Founds = list.Organizations, v.founds(); list.Next != "" {
		link.Set("after", list.Next)
		p.Next = "/site/organizations?" + link.Encode()
	}
	return c.render(w, v, status, "site-organizations", sitePage("organizations", "Organizations", p))
}

func (c *Console) restoreOrganization(w http.ResponseWriter, v *visit) error {
	if _, err := v.form(w); err != nil {
		return err
	}
	if err := v.administrators(); err != nil {
		return err
	}
	err := v.api().call(http.MethodPost, nil, nil, nil, "site", "organizations", v.r.PathValue("id"), "restore")
	return c.after(w, v, err, "/site/organizations?done=restored", func(status int, problem string) error {
		return c.renderSiteOrganizations(w, v, status, siteOrganizationsPage{Deleted: true, Problem: problem})
	})
}

// deletedOrganization finds the organization that the page is about.
func (v *visit) deletedOrganization() (siteOrganization, error) {
	if err := v.administrators(); err != nil {
		return siteOrganization{}, err
	}
	query := url.Values{"deleted": {"true"}, "maxResults": {"1000"}}
	for range maxUserPages {
		var list wireSiteOrganizations
		if err := v.api().get(query, &list, "site", "organizations"); err != nil {
			return siteOrganization{}, err
		}
		for _, o := range list.Organizations {
			if o.ID == v.r.PathValue("id") {
				return o, nil
			}
		}
		if list.Next == "" {
			break
		}
		query.Set("continuationToken", list.Next)
	}
	return siteOrganization{}, errNoPage
}

type purgePage struct {
	Organization siteOrganization
	Problem      string
}

func (c *Console) purgeOrganizationForm(w http.ResponseWriter, v *visit) error {
	return c.renderPurge(w, v, http.StatusOK, "")
}

func (c *Console) renderPurge(w http.ResponseWriter, v *visit, status int, problem string) error {
	o, err := v.deletedOrganization()
	if err != nil {
		return err
	}
	return c.render(w, v, status, "site-purge", page{Title: "Purge an organization", Narrow: true, Body: purgePage{o, problem}})
}

func (c *Console) purgeOrganization(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	o, err := v.deletedOrganization()
	if err != nil {
		return err
	}
	again := func(status int, problem string) error { return c.renderPurge(w, v, status, problem) }
	if strings.TrimSpace(form.Get("confirm")) != o.Login {
		return again(http.StatusBadRequest, "That is not the name of the organization. Nothing is purged.")
	}
	err = v.api().call(http.MethodPost, nil, nil, nil, "site", "organizations", o.ID, "purge")
	return c.after(w, v, err, "/site/organizations?show=deleted&done=purged", again)
}
