package scim

import (
	"context"
	"net/http"
	"strconv"
	"strings"
)

// Bounds of a list.
const (
	maxCount     = 200
	defaultCount = 100
	// MaxScan is how many resources a filter is evaluated on at most. One that the
	// database can narrow down by itself ("eq" on id, userName, externalId, displayName,
	// emails and active, and for groups on members) may select among any number.
	MaxScan   = 10_000
	scanBatch = 500
)

const listSchema = "urn:ietf:params:scim:api:messages:2.0:ListResponse"

// query is what a caller wants to see (RFC 7644 §3.4.2, §3.9).
type query struct {
	filter               *filter
	start, count         int // the index of the first one, from 0, and how many
	byName, descending   bool
	attributes, excluded []attrPath
}

// fromURL reads the query of a GET, and of requests that are answered with a resource.
func (c *call) fromURL() (query, error) {
	values := c.r.URL.Query()
	split := func(name string) (out []string) {
		for _, value := range values[name] {
			out = append(out, strings.Split(value, ",")...)
		}
		return out
	}
	number := func(name string, otherwise int) (int, error) {
		if !values.Has(name) {
			return otherwise, nil
		}
		n, err := strconv.Atoi(values.Get(name))
		if err != nil {
			return 0, refuse(invalidValue, "%s must be a number", name)
		}
		return n, nil
	}
	start, err := number("startIndex", 1)
	if err != nil {
		return query{}, err
	}
	count, err := number("count", defaultCount)
	if err != nil {
		return query{}, err
	}
	return newQuery(values.Get("filter"), start, count, values.Get("sortBy"), values.Get("sortOrder"),
		split("attributes"), split("excludedAttributes"))
}

// fromBody reads the same from the body of a POST to .search.
func (c *call) fromBody() (query, error) {
	body, err := readObject(c.r)
	if err != nil {
		return query{}, err
	}
	text := func(name string) (s string) {
		if v, ok := member(body, name); ok && err == nil {
			s, err = textOf(name, v, maxFilter)
		}
		return s
	}
	number := func(name string, otherwise int) int {
		v, ok := member(body, name)
		if !ok {
			return otherwise
		}
		n, ok := v.(float64)
		if !ok && err == nil {
			err = refuse(invalidValue, "%s must be a number", name)
		}
		return int(max(-1, min(n, 1<<31)))
	}
	split := func(name string) (out []string) {
		v, _ := member(body, name)
		for _, value := range list(v) {
			if s, ok := value.(string); ok {
				out = append(out, s)
			} else if err == nil {
				err = refuse(invalidValue, "%s must be a list of names", name)
			}
		}
		return out
	}
	f, sortBy, order := text("filter"), text("sortBy"), text("sortOrder")
	start, count := number("startIndex", 1), number("count", defaultCount)
	attributes, excluded := split("attributes"), split("excludedAttributes")
	if err != nil {
		return query{}, err
	}
	return newQuery(f, start, count, sortBy, order, attributes, excluded)
}

func newQuery(f string, start, count int, sortBy, order string, attributes, excluded []string) (query, error) {
	q := query{start: max(start, 1) - 1, count: min(max(count, 0), maxCount)}
	if f != "" {
		var err error
		if q.filter, err = parseFilter(f); err != nil {
			return query{}, err
		}
	}
	sortBy = fold(sortBy)
	q.byName = sortBy == "username" || sortBy == fold(userSchema+":userName")
	q.descending = q.byName && fold(order) == "descending"
	q.attributes, q.excluded = paths(attributes), paths(excluded)
	return q, nil
}

// paths reads names of attributes. What is none names nothing.
func paths(texts []string) (out []attrPath) {
	for _, text := range texts {
		if t, err := parsePath(strings.TrimSpace(text)); err == nil && t.values == nil {
			out = append(out, t.path)
		}
	}
	return out
}

// wants reports whether an attribute is to be shown.
func (q query) wants(name string) bool {
	for _, path := range q.excluded {
		if path.sub == "" && strings.EqualFold(path.name, name) {
			return false
		}
	}
	if len(q.attributes) == 0 {
		return true
	}
	for _, path := range q.attributes {
		if strings.EqualFold(path.name, name) {
			return true
		}
	}
	return false
}

// project takes out of r what is not to be shown. The ID and the schemas always are.
func (q query) project(r resource) resource {
	for _, name := range names(r) {
		if name == "id" || name == "schemas" {
			continue
		}
		if !q.wants(name) {
			delete(r, name)
			continue
		}
		var only, without []string
		whole := len(q.attributes) == 0
		for _, path := range q.attributes {
			if strings.EqualFold(path.name, name) {
				whole = whole || path.sub == ""
				only = append(only, path.sub)
			}
		}
		for _, path := range q.excluded {
			if path.sub != "" && strings.EqualFold(path.name, name) {
				without = append(without, path.sub)
			}
		}
		for _, value := range list(r[name]) {
			if object, ok := value.(resource); ok {
				trim(object, only, without, whole)
			}
		}
	}
	return r
}

func trim(object resource, only, without []string, whole bool) {
	in := func(list []string, name string) bool {
		for _, other := range list {
			if strings.EqualFold(other, name) {
				return true
			}
		}
		return false
	}
	for _, name := range names(object) {
		if !whole && !in(only, name) || in(without, name) {
			delete(object, name)
		}
	}
}

// source is where the resources of one kind come from.
type source[T any] struct {
	schema  string
	columns columns
	count   func(ctx context.Context, organizationID string, where condition) (int, error)
	page    func(ctx context.Context, organizationID string, p page) ([]T, error)
	render  func(ctx context.Context, items []T, q query) ([]resource, error)
}

// answerList answers with the resources that q selects, all read at one moment.
func answerList[T any](c *call, s source[T], q query) error {
	var total int
	shown := []resource{}
	err := c.db.ReadTx(c.r.Context(), func(ctx context.Context) error {
		where, narrowed := s.columns.where(q.filter, s.schema)
		if !narrowed {
			where = condition{exact: q.filter == nil}
		}
		var err error
		if total, err = s.count(ctx, c.organization.ID, where); err != nil {
			return err
		}
		p := page{where: where, byName: q.byName, descending: q.descending, offset: q.start, limit: q.count}
		if !where.exact {
			if total > MaxScan {
				return refuse(tooMany, "the filter would have to look at more than %d resources: compare userName, externalId, displayName or id by eq", MaxScan)
			}
			shown, total, err = scan(ctx, c, s, p, q)
			return err
		}
		if q.count == 0 || q.start >= total {
			return nil
		}
		items, err := s.page(ctx, c.organization.ID, p)
		if err != nil {
			return err
		}
		shown, err = s.render(ctx, items, q)
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range shown {
		q.project(r)
	}
	write(c.w, http.StatusOK, map[string]any{
		"schemas": []string{listSchema}, "totalResults": total, "startIndex": q.start + 1, "itemsPerPage": len(shown), "Resources": shown,
	})
	return nil
}

// scan evaluates the filter on what the database has left over. Only what is shown in
// the end is looked up whole.
func scan[T any](ctx context.Context, c *call, s source[T], p page, q query) (shown []resource, total int, err error) {
	p.limit = scanBatch
	bare := query{filter: q.filter, excluded: []attrPath{{name: "groups"}, {name: "members"}}}
	var selected []T
	for p.offset = 0; ; p.offset += scanBatch {
		items, err := s.page(ctx, c.organization.ID, p)
		if err != nil {
			return nil, 0, err
		}
		found, err := s.render(ctx, items, bare)
		if err != nil {
			return nil, 0, err
		}
		for i, r := range found {
			if !q.filter.matches(r, s.schema) {
				continue
			}
			if total >= q.start && len(selected) < q.count {
				selected = append(selected, items[i])
			}
			total++
		}
		if len(items) < scanBatch {
			break
		}
	}
	shown, err = s.render(ctx, selected, q)
	return shown, total, err
}
