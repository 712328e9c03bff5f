package proxy

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

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
		if err := g.cursors.open(token, &at); err != nil || at.User != c.principal.UserID || at.Filter != c.listFilter() {
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
		sealed, err := g.cursors.seal(next)
		if err != nil {
			return err
		}
		answer.ContinuationToken = &sealed
	}
	httpapi.WriteJSON(w, http.StatusOK, answer)
	return nil
}

// listCursor is where a list goes on: in which organization, from which page of the
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
	for _, org := range c.snapshot.Organizations(c.principal.UserID) {
		if wanted := c.query.Get("organization"); wanted != "" && !strings.EqualFold(wanted, org.Login) {
			continue
		}
		if !started && org.Login != at.Organization {
			continue
		}
		if started {
			at.Token, at.Skip = "", 0
		}
		started = true
		for {
			page, err := g.stackPage(c, org.Login, at.Token)
			if err != nil {
				return nil, nil, err
			}
			for i, stack := range page.Stacks {
				if i < at.Skip || !c.visible(stack) {
					continue
				}
				if len(found) == limit {
					return found, &listCursor{User: c.principal.UserID, Filter: c.listFilter(), Organization: org.Login, Token: at.Token, Skip: i}, nil
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

// stackPage asks the state service for one page of one organization's stacks.
func (g *Gate) stackPage(c *call, organization, token string) (stackPage, error) {
	parameters := url.Values{"organization": {organization}, "maxResults": {strconv.Itoa(500)}}
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
	return page, nil
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
