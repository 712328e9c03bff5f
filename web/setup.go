package web

import (
	"net/http"
	"strings"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// setupPage is the form, as it was sent when that failed.
type setupPage struct {
	Code                             string
	Organization, Login, Name, Email string
	Problem                          string
}

// setupForm is there for the bearer of the code that the server printed, and until
// there is a user. Nobody becomes administrator by arriving first.
func (c *Console) setupForm(w http.ResponseWriter, v *visit) error {
	code := v.r.URL.Query().Get("code")
	if err := c.config.Directory.CheckSetupCode(v.r.Context(), code); err != nil {
		return err
	}
	return c.renderSetup(w, v, http.StatusOK, setupPage{Code: code})
}

func (c *Console) renderSetup(w http.ResponseWriter, v *visit, status int, p setupPage) error {
	return c.render(w, v, status, "setup", page{Title: "Set up Ipuka", Narrow: true, Body: p})
}

func (c *Console) setup(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p := setupPage{
		Code: form.Get("code"), Organization: strings.TrimSpace(form.Get("organization")), Login: strings.TrimSpace(form.Get("login")),
		Name: strings.TrimSpace(form.Get("name")), Email: strings.TrimSpace(form.Get("email")),
	}
	if form.Get("password") != form.Get("again") {
		p.Problem = "The two passwords are not the same."
		return c.renderSetup(w, v, http.StatusBadRequest, p)
	}
	first := identity.First{Login: p.Login, Name: p.Name, Email: p.Email, Organization: p.Organization}
	user, _, err := c.config.Email.Setup(v.r.Context(), p.Code, first, form.Get("password"))
	if kind := errs.KindOf(err); err != nil && (kind == errs.Invalid || kind == errs.Unprocessable) {
		p.Problem = sentence(errs.Public(err))
		return c.renderSetup(w, v, httpapi.Status(err), p)
	} else if err != nil {
		return err
	}
	return c.begin(w, v, user.ID, "/")
}
