// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/metadata_text.h"

#include <climits>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <libxml/xmlreader.h>

namespace vfioap {
namespace {

std::string_view view_of(const xmlChar* text) {
    return text == nullptr ? std::string_view{} : reinterpret_cast<const char*>(text);
}

// What parts the pieces of the normalised text: XML has neither character.
constexpr char before_word = '\0';
constexpr char before_tag = '\1';

/// A prefix that is not declared is a part of the name to libxml2.
std::string_view local(std::string_view name) {
    return name.substr(name.rfind(':') + 1);
}

void add_words(std::string& result, std::string_view text) {
    constexpr std::string_view blanks = " \t\r\n";
    while (true) {
        const auto begin = text.find_first_not_of(blanks);
        if (begin == std::string_view::npos) return;
        text.remove_prefix(begin);
        const auto word = text.substr(0, text.find_first_of(blanks));
        result += before_word;
        result += word;
        text.remove_prefix(word.size());
    }
}

void add_start(std::string& result, xmlTextReader* reader) {
    result += before_tag;
    result += local(view_of(xmlTextReaderConstLocalName(reader)));
    const bool empty = xmlTextReaderIsEmptyElement(reader) == 1;
    std::map<std::string, std::string> attributes;
    while (xmlTextReaderMoveToNextAttribute(reader) == 1) {
        if (xmlTextReaderIsNamespaceDecl(reader) == 1) continue;
        attributes.emplace(local(view_of(xmlTextReaderConstLocalName(reader))),
                           view_of(xmlTextReaderConstValue(reader)));
    }
    for (const auto& [name, value] : attributes) {
        result += before_word;
        result += name;
        result += before_word;
        result += value;
    }
    result += before_tag;
    // As if it had an end of its own.
    if (empty) result += before_tag;
}

/// The same for all texts that say the same; nothing where there is no XML.
std::optional<std::string> normalised(std::string_view text) {
    if (text.empty()) return std::string{};
    if (text.size() > INT_MAX) return std::nullopt;
    const std::unique_ptr<xmlTextReader, decltype(&xmlFreeTextReader)> reader{
        xmlReaderForMemory(text.data(), static_cast<int>(text.size()), nullptr, "UTF-8",
                           XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA),
        xmlFreeTextReader};
    if (!reader) return std::nullopt;
    // NOERROR does not keep all of them from standard error. The type of the error became const in
    // libxml2 2.12.
    xmlTextReaderSetStructuredErrorHandler(
        reader.get(), [](void*, auto* /*error*/) {}, nullptr);
    std::string result;
    int more = 0;
    while ((more = xmlTextReaderRead(reader.get())) == 1) {
        switch (xmlTextReaderNodeType(reader.get())) {
            case XML_READER_TYPE_ELEMENT:
                add_start(result, reader.get());
                break;
            case XML_READER_TYPE_END_ELEMENT:
                result += before_tag;
                break;
            case XML_READER_TYPE_TEXT:
            case XML_READER_TYPE_CDATA:
                add_words(result, view_of(xmlTextReaderConstValue(reader.get())));
                break;
            case XML_READER_TYPE_DOCUMENT_TYPE:
            case XML_READER_TYPE_ENTITY_REFERENCE:
                return std::nullopt;
            default:
                break;
        }
    }
    if (more != 0) return std::nullopt;
    return result;
}

}  // namespace

bool same_metadata(std::string_view a, std::string_view b) {
    const auto left = normalised(a);
    return left && left == normalised(b);
}

}  // namespace vfioap
