"""What the dashboards are made of: selectors, rates and panels that look alike.

Every panel must come with a unit and a description. Queries are given as [(expression, legend)].
Expressions read the server's own series, not recorded ones, so that the dashboards work where no
rules are installed; the few exceptions say so.
"""

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.models import common, dashboard

SELECTOR = 'namespace=~"$namespace",job=~"$job",model=~"$model",pod=~"$pod"'
DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

SECONDS, SHARE, BYTES, NUMBER = "s", "percentunit", "bytes", "none"
BYTES_PER_SECOND, REQUESTS_PER_SECOND = "Bps", "reqps"
TOKENS_PER_SECOND, ROWS_PER_SECOND = "suffix: tokens/s", "suffix: rows/s"
STEPS_PER_SECOND, UNITS_PER_SECOND = "suffix: steps/s", "suffix: units/s"
SPANS_PER_SECOND = "suffix: spans/s"

GREEN, ORANGE, RED = "green", "orange", "red"


def series(name, more=""):
    """A series of the chosen pods. `more`: further matchers."""
    return f"{name}{{{SELECTOR}{',' if more else ''}{more}}}"


def rate(name, more=""):
    return f"rate({series(name, more)}[$__rate_interval])"


def total(expression, by=""):
    """The sum over all, or one for each value of the labels `by`."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def mean(histogram, by="", more=""):
    """The mean of what a histogram has seen."""
    return (f"{total(rate(histogram + '_sum', more), by)} / "
            f"{total(rate(histogram + '_count', more), by)}")


def quantile(q, histogram, by="", more=""):
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {total(rate(histogram + '_bucket', more), labels)})"


def quantiles(histogram, by="", more="", legend=""):
    """Queries of p50 and p99."""
    return [(quantile(q, histogram, by, more), f"p{round(q * 100)}{legend}") for q in (0.5, 0.99)]


def _with_queries(panel, queries, instant=False):
    for number, (expression, legend) in enumerate(queries):
        query = (prometheus.Dataquery().expr(expression).legend_format(legend)
                 .ref_id(chr(ord("A") + number)).datasource(DATASOURCE))
        panel.with_target(query.instant() if instant else query.range())
    return panel


def _thresholds(steps):
    """`steps`: [(from value on, colour)]; below the first it is green."""
    values = [dashboard.Threshold(value=None, color=GREEN)]
    values += [dashboard.Threshold(value=value, color=colour) for value, colour in steps]
    return (builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(values))


def number(title, unit, description, expression, steps=(), width=3, decimals=None):
    """One large number, now, with its course behind it. Its background is the worst of `steps`
    that it has reached."""
    panel = (stat.Panel().title(title).description(description).unit(unit).datasource(DATASOURCE)
             .span(width).height(4).thresholds(_thresholds(steps)).no_value("–")
             .graph_mode(common.BigValueGraphMode.AREA)
             .color_mode(common.BigValueColorMode.BACKGROUND if steps
                         else common.BigValueColorMode.NONE)
             .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"])))
    if decimals is not None:
        panel.decimals(decimals)
    return _with_queries(panel, [(expression, title)])


def graph(title, unit, description, queries, width=12, stacked=False, most=None, height=8):
    """Lines, or areas on one another. `most`: the end of the axis, where there is one."""
    wide = width >= 12
    panel = (timeseries.Panel().title(title).description(description).unit(unit)
             .datasource(DATASOURCE).span(width).height(height).min(0).line_width(1)
             .fill_opacity(60 if stacked else 5)
             .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
                      .sort(common.SortOrder.DESCENDING))
             .legend(common_builders.VizLegendOptions().show_legend(True)
                     .display_mode(common.LegendDisplayMode.TABLE if wide
                                   else common.LegendDisplayMode.LIST)
                     .placement(common.LegendPlacement.RIGHT if wide
                                else common.LegendPlacement.BOTTOM)
                     .calcs(["lastNotNull", "max"] if wide else ["lastNotNull"])))
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL)
                       .group("A"))
    if most is not None:
        panel.max(most)
    return _with_queries(panel, queries)


def row(title):
    return builders.Row(title)


def _chooser(name, label, matchers):
    """A variable whose values are those of a label. All of them also means: those without it."""
    within = f"{{{matchers}}}" if matchers else ""
    return (builders.QueryVariable(name).label(label).datasource(DATASOURCE)
            .query(f"label_values(pregate_build_info{within}, {name})")
            .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
            .multi(True).include_all(True).all_value(".*")
            .current(dashboard.VariableOption(selected=True, text="All", value="$__all")))


def new_dashboard(name, title, description, contents):
    """`contents`: panels and rows in their order, from left to right and from top to bottom."""
    board = (builders.Dashboard(title).uid(f"pregate-{name}").description(description)
             .tags(["pregate"]).refresh("30s").time("now-1h", "now").timezone("browser")
             .readonly().tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
             .link(builders.DashboardLink("Pregate").type(dashboard.DashboardLinkType.DASHBOARDS)
                   .tags(["pregate"]).keep_time(True).include_vars(True))
             .with_variable(builders.DatasourceVariable("datasource").label("Data source")
                            .type("prometheus")))
    matchers = []
    for variable, label in (("namespace", "Namespace"), ("job", "Job"), ("model", "Model"),
                            ("pod", "Pod")):
        board.with_variable(_chooser(variable, label, ",".join(matchers)))
        matchers.append(f'{variable}=~"${variable}"')
    board.annotation(
        builders.AnnotationQuery().name("Alerts").datasource(DATASOURCE).enable(True)
        .icon_color(RED).expr('ALERTS{alertname=~"Pregate.*",alertstate="firing"}'))
    for place, content in enumerate(contents, 1):
        content.id(place)
        if isinstance(content, builders.Row):
            board.with_row(content)
        else:
            board.with_panel(content)
    return board.build()
