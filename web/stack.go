package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
)

type stackPage struct {
	Name      stackName
	Version   int64
	Operation *operation
	Tags      []pair // sorted
	Last      *updateRow
	Recent    []updateRow
	State     *stateView // nil when the visitor may not read it
	Sealed    string     // why not
	Engine    string     // the version of the command that wrote the state
}

type operation struct {
	Kind, Author, Path string
	Started            time.Time
}

type pair struct{ Name, Value string }

// recentUpdates are how many a stack's page shows of its history.
const recentUpdates = 8

// stack is a stack's overview.
func (c *Console) stack(w http.ResponseWriter, v *visit) error {
	n, s, err := v.stack()
	if err != nil {
		return err
	}
	p := stackPage{Name: n, Version: s.Version}
	for name, text := range s.Tags {
		p.Tags = append(p.Tags, pair{name, text})
	}
	slices.SortFunc(p.Tags, func(a, b pair) int { return strings.Compare(a.Name, b.Name) })
	if p.Recent, _, err = v.updates(n, 1, recentUpdates); err != nil {
		return err
	}
	if len(p.Recent) > 0 {
		p.Last = &p.Recent[0]
	}
	p.Operation = currentOperation(s, p.Recent)
	if p.State, p.Engine, p.Sealed, err = v.state(n, ""); err != nil {
		return err
	}
	return c.render(w, v, http.StatusOK, "stack", page{
		Title: n.Stack, Crumbs: crumbs(n), Tabs: stackTabs(n, "overview"), Body: p,
	})
}

// stack returns what the API says about the path's stack, with its canonical name.
func (v *visit) stack() (stackName, wireStack, error) {
	n, err := v.names()
	if err != nil {
		return n, wireStack{}, err
	}
	var s wireStack
	if err := v.api().get(nil, &s, n.segments()...); err != nil {
		return n, s, err
	}
	if s.Organization != "" && s.Project != "" && s.Stack != "" {
		n = stackName{s.Organization, s.Project, s.Stack}
	}
	return n, s, nil
}

// state returns the stack's outputs and resources, those whose name, type or ID
// contains search. A state that the visitor may not read is no error: sealed says
// why it is not shown.
func (v *visit) state(n stackName, search string) (state *stateView, engine, sealed string, err error) {
	var export wireExport
	err = v.api().get(nil, &export, n.segments("export")...)
	switch {
	case err == nil && export.Deployment != nil:
		return viewState(export.Deployment, search), export.Deployment.Manifest.Version, "", nil
	case err == nil:
		return &stateView{}, "", "", nil
	case errors.Is(err, errs.Forbidden), errors.Is(err, errs.TooLarge):
		return nil, "", sentence(errs.Public(err)), nil
	}
	return nil, "", "", err
}

func currentOperation(s wireStack, recent []updateRow) *operation {
	if s.Operation == nil {
		return nil
	}
	o := &operation{Kind: s.Operation.Kind, Author: s.Operation.Author, Started: seconds(s.Operation.Started)}
	for _, u := range recent {
		if u.Running {
			o.Path = u.Path
			break
		}
	}
	return o
}

type resourcesPage struct {
	Name   stackName
	Search string
	State  *stateView
	Sealed string
}

// resources shows a stack's resources with their properties.
func (c *Console) resources(w http.ResponseWriter, v *visit) error {
	n, _, err := v.stack()
	if err != nil {
		return err
	}
	p := resourcesPage{Name: n, Search: strings.TrimSpace(v.r.URL.Query().Get("q"))}
	if p.State, _, p.Sealed, err = v.state(n, p.Search); err != nil {
		return err
	}
	return c.render(w, v, http.StatusOK, "resources", page{
		Title: "Resources", Crumbs: crumbs(n), Tabs: stackTabs(n, "resources"), Body: p,
	})
}

type historyPage struct {
	Name         stackName
	Updates      []updateRow
	Newer, Older string
}

const historyPageSize = 25

// history lists a stack's updates, newest first.
func (c *Console) history(w http.ResponseWriter, v *visit) error {
	n, _, err := v.stack()
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(v.r.URL.Query().Get("page"))
	if err != nil || number < 1 || number > 1_000_000 {
		number = 1
	}
	p := historyPage{Name: n}
	var more bool
	if p.Updates, more, err = v.updates(n, number, historyPageSize); err != nil {
		return err
	}
	if number > 1 {
		p.Newer = n.Path("updates") + "?page=" + strconv.Itoa(number-1)
	}
	if more {
		p.Older = n.Path("updates") + "?page=" + strconv.Itoa(number+1)
	}
	return c.render(w, v, http.StatusOK, "history", page{
		Title: "History", Crumbs: crumbs(n), Tabs: stackTabs(n, "history"), Body: p,
	})
}

// updates returns one page of a stack's history, and whether there may be more.
func (v *visit) updates(n stackName, page, size int) ([]updateRow, bool, error) {
	query := url.Values{"output-type": {"service"}, "page": {strconv.Itoa(page)}, "pageSize": {strconv.Itoa(size)}}
	var list wireUpdateList
	if err := v.api().get(query, &list, n.segments("updates")...); err != nil {
		return nil, false, err
	}
	var rows []updateRow
	for i := range list.Updates {
		rows = append(rows, viewUpdate(n, &list.Updates[i]))
	}
	more := len(rows) == size
	if list.Total > 0 {
		more = list.Total > int64(page)*int64(size)
	}
	return rows, more, nil
}

// stackOptions is where the command sends people who want to transfer a stack.
func (c *Console) stackOptions(w http.ResponseWriter, v *visit) error {
	n, _, err := v.stack()
	if err != nil {
		return err
	}
	return c.render(w, v, http.StatusOK, "options", page{
		Title: "Settings", Crumbs: crumbs(n), Tabs: stackTabs(n, ""), Narrow: true, Body: n,
	})
}

func stackTabs(n stackName, current string) []tab {
	return []tab{
		{"Overview", n.Path(), current == "overview"},
		{"Resources", n.Path("resources"), current == "resources"},
		{"History", n.Path("updates"), current == "history"},
	}
}
