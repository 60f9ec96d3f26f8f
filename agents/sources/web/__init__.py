"""A site as a source: its pages are found while they are fetched.

urls       one form for every URL, and which of them are of the site; pure
addresses  which addresses are connected to, and which are not
fetching   one request: bounds of size and time; what comes of it is a value
hosts      how often a host is asked, and when it is left alone
robots     robots.txt
sitemap    one sitemap, to URLs; sitemaps: all of a site
asking     requests in their turn, and what is in what they bring
outcomes   which redirects go round, and what is a document elsewhere
aim        what is of a site, and how far a crawl goes
judging    what a page is that was read
frontier   pages that are to be visited, on disk
site       the source
crawl      a run: from the frontier into the topic

What is known of each page, run after run: `agents.sources.pages`. Links and text come from `agents.sources.convert`.
"""
