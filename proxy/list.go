package proxy

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/rbac"
)

// listStacks answers with the stacks that the caller may read, of the organizations
// that the caller is in. The state service is asked for one organization at a time
// and filters nothing by permission; whatever it lists, only what the caller may
// read goes out.
func (g *Gate) listStacks(w http.ResponseWriter, c *call) error {
	limit, err := c.maxResults(1000, 1000)
	if err != nil {
		return err
	}
	var at listCursor
	if token := c.query.Get("continuationToken"); token != "" {
		if err := g.cursors.OpenText(token, &at); err != nil || at.User != c.principal.UserID || at.Filter != c.listFilter() {
			return errs.Errorf(errs.Invalid, "the continuationToken does not belong to this list")
		}
	}
	found, next, err := g.visibleStacks(c, at, limit)
	if err != nil {
		return err
	}
	answer := struct {
		Stacks            []jsontext.Value `json:"stacks"`
		ContinuationToken *string          `json:"continuationToken"` // null at the end; "" would make the CLI loop
	}{Stacks: found}
	if next != nil {
		text, err := g.cursors.SealText(next)
		if err != nil {
			return err
		}
		answer.ContinuationToken = &text
	}
	httpapi.WriteJSON(w, http.StatusOK, answer)
	return nil
}

// listCursor is where a list goes on: in which organization, by its ID, from which page of the
// state service's, behind how many of its stacks. It is sealed, and good for the
// same caller and filter only.
type listCursor struct {
	User         string `json:"u"`
	Filter       string `json:"f"`
	Organization string `json:"o"`
	Token        string `json:"t,omitempty"`
	Skip         int    `json:"s,omitzero"`
}

// listFilter is the part of the query that selects, in a form that no two different
// selections share.
func (c *call) listFilter() string {
	filter := url.Values{}
	for _, name := range []string{"organization", "project", "tagName", "tagValue"} {
		filter.Set(name, c.query.Get(name))
	}
	return filter.Encode()
}

// visibleStacks collects up to limit stacks from the cursor on, and returns where to
// go on, nil at the end.
func (g *Gate) visibleStacks(c *call, at listCursor, limit int) ([]jsontext.Value, *listCursor, error) {
	found := []jsontext.Value{}
	started := at.Organization == ""
	wanted, known := c.snapshot.Organization(c.query.Get("organization"))
	only := c.query.Get("organization") != ""
	for _, org := range c.snapshot.Organizations(c.principal.UserID) {
		if only && (!known || org.ID != wanted.ID) || !started && org.ID != at.Organization {
			continue
		}
		if err := g.requireSSO(c, org); errors.Is(err, errs.Unauthenticated) && !only {
			continue // the other organizations' stacks can be listed nevertheless
		} else if err != nil {
			return nil, nil, err
		}
		if started {
			at.Token, at.Skip = "", 0
		}
		started = true
		for {
			page, err := g.stackPage(c, org, at.Token)
			if err != nil {
				return nil, nil, err
			}
			for i, stack := range page.Stacks {
				if i < at.Skip || !c.visible(stack) {
					continue
				}
				if len(found) == limit {
					return found, &listCursor{User: c.principal.UserID, Filter: c.listFilter(), Organization: org.ID, Token: at.Token, Skip: i}, nil
				}
				found = append(found, stack.raw)
			}
			at.Skip = 0
			if page.ContinuationToken == "" || page.ContinuationToken == at.Token {
				break
			}
			at.Token = page.ContinuationToken
		}
	}
	return found, nil, nil
}

func (c *call) visible(stack listedStack) bool {
	return c.snapshot.Decide(c.principal.UserID, "stack:list",
		rbac.Object{Organization: stack.Organization, Project: stack.Project, Stack: stack.Stack}).Allow
}

type stackPage struct {
	Stacks            []listedStack `json:"stacks"`
	ContinuationToken string        `json:"continuationToken"`
}

// listedStack is one stack of a list, with the bytes that the state service sent.
type listedStack struct {
	Organization, Project, Stack string
	raw                          jsontext.Value
}

func (s *listedStack) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	raw, err := decoder.ReadValue()
	if err != nil {
		return err
	}
	var names struct {
		Organization string `json:"orgName"`
		Project      string `json:"projectName"`
		Stack        string `json:"stackName"`
	}
	if err := json.Unmarshal(raw, &names); err != nil {
		return err
	}
	*s = listedStack{names.Organization, names.Project, names.Stack, raw.Clone()}
	return nil
}

// stackPage asks the state service for one page of one organization's stacks, and
// gives the organization its present name.
func (g *Gate) stackPage(c *call, org rbac.Org, token string) (stackPage, error) {
	parameters := url.Values{"organization": {org.Key}, "maxResults": {strconv.Itoa(500)}}
	for _, name := range []string{"project", "tagName", "tagValue"} {
		if value := c.query.Get(name); value != "" {
			parameters.Set(name, value)
		}
	}
	if token != "" {
		parameters.Set("continuationToken", token)
	}
	a := &answer{hold: true}
	if err := g.ask(c, a, http.MethodGet, "/api/user/stacks", parameters, http.NoBody, 0); err != nil {
		return stackPage{}, err
	}
	var page stackPage
	if err := json.Unmarshal(a.held.Bytes(), &page); err != nil {
		return stackPage{}, errs.Wrap(errs.Unavailable, err, "the state service's list cannot be read, try again")
	}
	for i := range page.Stacks {
		if err := page.Stacks[i].rename(org); err != nil {
			return stackPage{}, err
		}
	}
	return page, nil
}

// rename gives a stack of an organization that was renamed the present name of it.
func (s *listedStack) rename(org rbac.Org) error {
	if org.Key == org.Login || s.Organization != org.Key {
		return nil
	}
	var body map[string]jsontext.Value
	if err := json.Unmarshal(s.raw, &body); err != nil {
		return err
	}
	name, err := json.Marshal(org.Login)
	if err != nil {
		return err
	}
	body["orgName"], s.Organization = name, org.Login
	s.raw, err = json.Marshal(body)
	return err
}

// projectExists is true for a project in which the caller may see a stack.
func (g *Gate) projectExists(w http.ResponseWriter, c *call) error {
	c.query.Set("organization", c.object.Organization)
	c.query.Set("project", c.names["project"])
	found, _, err := g.visibleStacks(c, listCursor{}, 1)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errs.Errorf(errs.NotFound, "project %s not found", c.object.Organization+"/"+c.names["project"])
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
