package main

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// get reads a path of the API as the first administrator.
func get(ts *testscript.TestScript, path string) []byte {
	request, err := http.NewRequest(http.MethodGet, ts.Getenv("API")+path, nil)
	ts.Check(err)
	request.Header.Set("Authorization", "token "+ts.Getenv("TOKEN"))
	response, err := http.DefaultClient.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	return body
}

var (
	formPattern   = regexp.MustCompile(`(?s)<form([^>]*)>(.*?)</form>`)
	inputPattern  = regexp.MustCompile(`<input[^>]*>`)
	selectPattern = regexp.MustCompile(`(?s)<select([^>]*)>.*?<option([^>]*) selected`)
	buttonPattern = regexp.MustCompile(`<button([^>]*)>`)
	attributeExpr = regexp.MustCompile(`([a-z-]+)="([^"]*)"`)
)

// browse stands for a desktop's browser, as the program that the CLI opens URLs
// with. It walks the console's forms: signs in where it is asked to, and confirms,
// until the console has sent it to the CLI and the CLI back to the welcome page.
func browse() {
	if err := walk(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func walk(at string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	client := &http.Client{Jar: jar}
	response, err := client.Get(at)
	for range 5 {
		if err != nil {
			return err
		}
		body, readErr := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if readErr != nil {
			return readErr
		}
		page := response.Request.URL
		if strings.HasPrefix(page.Path, "/welcome/cli") {
			return nil
		}
		action, fields, ok := mainForm(string(body))
		if !ok {
			return fmt.Errorf("%s (%d) has no form to go on with:\n%s", page.Path, response.StatusCode, body)
		}
		if _, asked := fields["password"]; asked {
			fields.Set("login", "admin")
			fields.Set("password", "correct horse battery staple")
		}
		target, err := page.Parse(html.UnescapeString(action))
		if err != nil {
			return err
		}
		response, err = submit(client, page, target, fields)
		if err != nil {
			return err
		}
	}
	return errors.New("the console did not come to an end")
}

// submit posts a form as a browser does: from the page's own origin.
func submit(client *http.Client, page, target *url.URL, fields url.Values) (*http.Response, error) {
	request, err := http.NewRequest(http.MethodPost, target.String(), strings.NewReader(fields.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", page.Scheme+"://"+page.Host)
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	return client.Do(request)
}

// mainForm returns the page's form for what it is about, as sent by its first button:
// not the one for signing out, and the first where there are several.
func mainForm(page string) (action string, fields url.Values, ok bool) {
	for _, form := range formPattern.FindAllStringSubmatch(page, -1) {
		attributes := attributesOf(form[1])
		if attributes["action"] == "/signout" || !strings.EqualFold(attributes["method"], "post") {
			continue
		}
		fields = url.Values{}
		for _, input := range inputPattern.FindAllString(form[2], -1) {
			a := attributesOf(input)
			if a["name"] != "" {
				fields.Set(a["name"], html.UnescapeString(a["value"]))
			}
		}
		for _, m := range selectPattern.FindAllStringSubmatch(form[2], -1) {
			options := strings.Split(m[0], "<option")
			fields.Set(attributesOf(m[1])["name"], attributesOf(options[len(options)-1])["value"])
		}
		if button := buttonPattern.FindString(form[2]); attributesOf(button)["name"] != "" {
			fields.Set(attributesOf(button)["name"], attributesOf(button)["value"])
		}
		return attributes["action"], fields, true
	}
	return "", nil, false
}

func attributesOf(tag string) map[string]string {
	attributes := map[string]string{}
	for _, m := range attributeExpr.FindAllStringSubmatch(tag, -1) {
		attributes[m[1]] = m[2]
	}
	return attributes
}
